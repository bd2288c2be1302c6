"""A mail server for tests: takes mail as a real one does (aiosmtpd) and writes what it took, read by Python's own mail
parser, as JSON files into a directory. Prints its port; ends when its standard input does. Started by tests/src/smtp.rs."""

import argparse
import asyncio
import email
import email.policy
import json
import pathlib
import ssl
import sys

from aiosmtpd.smtp import SMTP, AuthResult


def arguments():
    parser = argparse.ArgumentParser()
    parser.add_argument("--dir", type=pathlib.Path, required=True)
    parser.add_argument("--tls", choices=["none", "starttls", "tls"], required=True)
    parser.add_argument("--cert")
    parser.add_argument("--key")
    parser.add_argument("--tls12", action="store_true", help="speak TLS 1.2 at most")
    parser.add_argument("--user")
    parser.add_argument("--password")
    parser.add_argument("--refuse", action="append", default=[], help="ADDRESS=REPLY to RCPT TO")
    parser.add_argument("--answer", default="250 OK taken", help="reply to DATA")
    return parser.parse_args()


class Handler:
    def __init__(self, args):
        self.args = args
        self.refused = dict(rule.split("=", 1) for rule in args.refuse)
        self.taken = 0

    async def handle_RCPT(self, server, session, envelope, address, options):
        if address in self.refused:
            return self.refused[address]
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        if not self.args.answer.startswith("250"):
            return self.args.answer
        parsed = email.message_from_bytes(envelope.content, policy=email.policy.default)
        transport = server.transport.get_extra_info("ssl_object")
        part = lambda kind: (lambda body: body.get_content() if body else None)(parsed.get_body((kind,)))
        mail = {
            "from": envelope.mail_from,
            "to": envelope.rcpt_tos,
            "tls": transport.version() if transport else None,
            "user": (session.auth_data or b"").decode() if session.authenticated else None,
            "headers": [[name, str(value)] for name, value in parsed.items()],
            "content_types": [each.get_content_type() for each in parsed.walk()],
            "defects": [repr(defect) for each in parsed.walk() for defect in each.defects],
            "text": part("plain"),
            "html": part("html"),
            "ascii": envelope.content.isascii(),
        }
        self.taken += 1
        whole = self.args.dir / f".{self.taken:04}"
        whole.write_text(json.dumps(mail))
        whole.rename(self.args.dir / f"{self.taken:04}.json")
        return self.args.answer


def login(args):
    def authenticate(server, session, envelope, mechanism, data):
        good = (data.login.decode(), data.password.decode()) == (args.user, args.password)
        return AuthResult(success=good, handled=good, auth_data=data.login if good else None)

    return authenticate if args.user else None


async def main():
    args = arguments()
    context = None
    if args.tls != "none":
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(args.cert, args.key)
        if args.tls12:
            context.maximum_version = ssl.TLSVersion.TLSv1_2
    handler = Handler(args)

    def session():
        options = {"hostname": "mail.test", "loop": loop}
        if args.tls == "starttls":
            options |= {"tls_context": context, "require_starttls": True}
        if args.user:
            options |= {"authenticator": login(args), "auth_required": True, "auth_require_tls": args.tls == "starttls"}
        return SMTP(handler, **options)

    loop = asyncio.get_running_loop()
    server = await loop.create_server(session, "127.0.0.1", 0, ssl=context if args.tls == "tls" else None)
    print(server.sockets[0].getsockname()[1], flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


asyncio.run(main())
