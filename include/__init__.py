"""Our building blocks: the one place that knows this lakehouse."""
