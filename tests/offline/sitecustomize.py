"""With this folder on PYTHONPATH, Python has no network: every attempt to connect or to look up a name raises."""
import socket

def _refuse(*args, **kwargs): raise OSError('the network is cut off for this test')

class _Socket(socket.socket):
    def connect(self, address): return super().connect(address) if self.family == getattr(socket, 'AF_UNIX', None) else _refuse()
    def connect_ex(self, address): return super().connect_ex(address) if self.family == getattr(socket, 'AF_UNIX', None) else _refuse()

socket.socket, socket.getaddrinfo, socket.gethostbyname, socket.create_connection = _Socket, _refuse, _refuse, _refuse
