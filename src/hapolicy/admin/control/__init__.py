"""The control socket: protocol, server and handlers in the daemon; client, commands and render in hapolicyctl."""
