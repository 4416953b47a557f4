"""The data path: accept, read a request, ask the services, answer."""
