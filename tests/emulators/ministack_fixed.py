"""Starts ministack 1.5.33 with our fixes: `python -m tests.emulators.ministack_fixed`, in the environment of the emulators.

Settings are ministack's own environment variables and HELD_TIME=1, with which the time of Step Functions stands still
until a test moves it. The fixes replace internals, so that the release is pinned; what a fix does not find stops the start.
"""

from __future__ import annotations

import os

from ministack.app import main

from tests.emulators import fixed_cloudformation, fixed_iam, fixed_lambda, fixed_step_functions

if __name__ == "__main__":
    fixed_step_functions.install(held_time=os.environ.get("HELD_TIME") == "1")
    fixed_lambda.install()
    fixed_cloudformation.install()
    fixed_iam.install()
    main()
