"""Everything that begins or steers a run: the HTTP gateway, the ``coafi`` command, the embedded service."""
