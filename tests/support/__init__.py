"""What the tests of running processes share: hapolicy itself, sample services, clients, and waiting."""
