"""What the .deb and the zipapp carry in the place of the library cysystemd: see `journal`."""
