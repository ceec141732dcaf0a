"""An HTTPS server on loopback, with a certificate authority of its own, for the checks of a release."""

import http.server
import ssl
import subprocess
import threading


def openssl(*arguments):
    subprocess.run(["openssl", *arguments], check=True, stderr=subprocess.DEVNULL)


def certificates(folder, name):
    """Makes an authority (ca.pem) and a certificate (server.pem, server.key) for a name, such as IP:127.0.0.1 or DNS:localhost."""
    new = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    openssl("req", "-x509", *new, "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem", "-subj", "/CN=trial authority")
    authority = ["-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key"]
    names = ["-subj", "/CN=trial", "-addext", f"subjectAltName={name}", "-addext", "basicConstraints=critical,CA:FALSE"]
    openssl("req", "-x509", *new, *authority, "-keyout", f"{folder}/server.key", "-out", f"{folder}/server.pem", *names)


class Server:
    """Serves until the process ends. `respond(method, path, body)` returns a status and a body."""

    def __init__(self, folder, port, respond):
        class Handler(http.server.BaseHTTPRequestHandler):
            def handle_one(self):
                body = self.rfile.read(int(self.headers.get("content-length", 0)))
                status, content = respond(self.command, self.path, body)
                self.send_response(status)
                self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_POST = handle_one

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(f"{folder}/server.pem", f"{folder}/server.key")
        server.socket = context.wrap_socket(server.socket, server_side=True)
        self.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
