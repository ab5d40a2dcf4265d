"""What happens: streams, subscriptions, fan-out, liveness. Never awaits I/O, never reads a clock."""
