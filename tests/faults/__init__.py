"""Through every fault that a network, a service, a client or the host can show: nothing lost, wrong or late."""
