"""What runs inside the sandbox: loaded by the slim interpreters, never by the grader's user.

These modules import nothing beyond a few built-in modules, because the size of the forked interpreter decides how
many programs per second it can run.
"""
