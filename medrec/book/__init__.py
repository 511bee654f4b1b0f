"""The book machine: chapters as source, their execution through papermill, and the Sphinx extension that binds them."""
