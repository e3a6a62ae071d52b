"""Build, lint and run the notebooks; not imported by the package."""
