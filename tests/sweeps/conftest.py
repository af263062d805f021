import datasets  # noqa: F401  registered before tests that put the registries back
import trainers  # noqa: F401
