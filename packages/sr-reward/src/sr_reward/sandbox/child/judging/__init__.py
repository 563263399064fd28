"""Test code runs in a judge, the program it tests beside ``serve``; ``rules`` says what the program may decide."""

UNFIT = "TestsUnfit"  # the kind reported where the tests themselves cannot run here, whatever the program does
