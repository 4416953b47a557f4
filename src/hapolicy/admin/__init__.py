"""The operator's side: status, the control socket, HTTP."""
