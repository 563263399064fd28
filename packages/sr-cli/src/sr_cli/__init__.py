"""The ``sr`` command: it puts the four libraries together and adds nothing of its own to them."""
