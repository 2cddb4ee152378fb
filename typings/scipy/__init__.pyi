"""The little of scipy that is used, for the type checker: scipy comes without types.

Where a result's shape hangs on the arguments' it is Any, and what takes it says what it is.
"""
