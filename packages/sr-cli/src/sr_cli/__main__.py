"""``python -m sr_cli`` is ``sr``: the form that launchers such as accelerate need."""

from sr_cli.main import main

main()
