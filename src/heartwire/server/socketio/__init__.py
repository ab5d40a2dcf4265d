"""The addresses and the server of the Socket.IO dialect."""
