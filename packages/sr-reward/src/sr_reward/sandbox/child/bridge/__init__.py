"""Two processes that use each other's values and objects without trusting each other.

``frames`` moves text; ``values``, ``containers`` and ``instances`` copy data; ``describe``, ``classes``, ``proxies``
and ``signatures`` show objects that stay where they are; ``table``, ``writing``, ``reading`` and ``peer`` are one end.
"""
