from dassl.utils.errors import counted  # noqa: F401
