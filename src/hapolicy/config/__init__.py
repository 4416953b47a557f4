"""From argv to `Settings`: options, loading, cross-checks. Imports core."""
