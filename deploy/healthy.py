"""A container's health check: ``python healthy.py PORT/PATH`` exits 0 where the service answers 200, and says why not.

The answer is the service's own, of what it needs: Kafka, its partitions, its database.
"""

import http.client
import sys


def main(port: int, path: str) -> int:
    """Ask, and print the answer; `docker inspect` keeps it."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=4)
    try:
        connection.request("GET", f"/{path}")
        answer = connection.getresponse()
        sys.stdout.write(answer.read(500).decode("utf-8", "replace"))
    except OSError as error:
        sys.stdout.write(f"port {port} does not answer: {error}\n")
        return 1
    finally:
        connection.close()
    return 0 if answer.status == http.client.OK else 1


if __name__ == "__main__":
    asked_port, _, asked_path = sys.argv[1].partition("/")
    sys.exit(main(int(asked_port), asked_path))
