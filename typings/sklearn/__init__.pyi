"""The little of scikit-learn that is used, for the type checker: it comes without types."""

from contextlib import AbstractContextManager

def config_context(
    *, assume_finite: bool, skip_parameter_validation: bool
) -> AbstractContextManager[None]: ...
