"""What each verb does, after the policy let it through. PWD, FEAT, HELP, MODE, STRU and SYST are pyftpdlib's."""

from __future__ import annotations

import errno
import os
import re
import time
from collections.abc import Iterator

import pyftpdlib.ioloop  # noqa: F401  first of its package: it silences the DeprecationWarning of asynchat

# isort: split
from pyftpdlib.handlers.ftp.control import proto_cmds

from appliance.ftp import addresses, filesystem, listing, policy, uploads
from appliance.ftp.connections import Passive
from appliance.ftp.data import Stream, text_of
from appliance.ftp.downloads import Download
from appliance.ftp.policy import Use
from appliance.ftp.renderings import BusyError
from appliance.ftp.rulings import Place, Run
from appliance.ftp.secured import Secured
from appliance.ftp.session import Cwd
from appliance.ftp.sums import DEFAULT, Summing

_LOGIN_DELAY_S = 2.0
_SHOWN = 64  # characters of a user or password in the log
_LOGINS = 3  # wrong ones until the connection is closed
_GLOB = re.compile(r"[*?\[]")
_TYPES = {"A": "A", "A N": "A", "L7": "A", "L 7": "A", "I": "I", "L8": "I", "L 8": "I"}
_MOST = (1 << 63) - 1
_HELP = {  # of verbs that pyftpdlib does not know, in its form
    "AUTH": "AUTH <SP> TLS (begin TLS)",
    "PBSZ": "PBSZ <SP> 0 (before PROT)",
    "PROT": "PROT <SP> C or P (data connections in the clear, or under TLS)",
    "HOST": "HOST <SP> name (choose a site, before USER)",
    "CLNT": "CLNT <SP> name (tell what the client is)",
    "HASH": "HASH <SP> file-name (tell the checksum that OPTS HASH chose)",
    **{verb: f"{verb} <SP> file-name [start end] (tell a checksum)" for verb in ("XCRC", "XMD5", "XSHA256")},
}
_METHODS = {verb: (row.use, f"ftp_{verb}") for verb, row in policy.VERBS.items()}


class Handler(Summing, Secured):
    """Methods named `ftp_*` run the verb of that name; an OSError of one is a refusal about its path."""

    proto_cmds = {  # noqa: RUF012  what FEAT and HELP tell
        verb: proto_cmds.get(verb, {"help": f"Syntax: {_HELP.get(verb, verb)}."})
        for verb, row in policy.VERBS.items()
        if row.use is not Use.WRITE
    }

    def perform(self, command: policy.Command, verdict: Run) -> None:
        use, method = _METHODS[command.verb]
        if use in (Use.CONTROL, Use.SETUP, Use.TLS):
            getattr(self, method)(command.argument)
            return
        path = self.site.real(verdict.path)
        try:
            if use is Use.LIST or (use is Use.STATUS and command.argument):
                self._list(command.verb, path, verdict.place, policy.without_flags(command.argument))
            elif use is Use.SUM:
                self.sum(command, path)
            else:
                getattr(self, method)(path)
        except OSError as error:
            self._refuse_path(error, command.verb, path)
        if use in (Use.FETCH, Use.STORE):
            self._restart_position = 0

    def _refuse_path(self, error: OSError, verb: str, path: str) -> None:
        """One text for every reason that lies in the path; another when the fault is ours."""
        if error.errno in (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE):
            self.house.log.error("cannot read", client=self.client, cause=os.strerror(error.errno or 0))
            self.respond("451 Local error.")
        else:
            self.house.counters.refuse("missing")
            self.house.missed(self.client_ip, verb, path, os.strerror(error.errno or errno.ENOENT))
            self.respond("550 No such file or directory.")

    def ftp_ABOR(self, _argument: str) -> None:
        if self.transfer is not None:
            self.abort()
        self.drop_data()
        self.respond("226 Abort successful; nothing runs any more.")

    def ftp_RETR(self, path: str) -> None:
        try:
            file = filesystem.open_file(path, self.layers)
        except FileNotFoundError:
            if not self.retr_sum(path, self._restart_position):
                raise
            return
        offset = self._restart_position
        if offset > file.size or (offset and self.type_a):
            file.close()
            self.respond("554 REST position is not within the file, or TYPE is not I.")
        elif self.type_a:
            self.begin(Stream(self, "RETR", path, text_of(file), file))
        else:
            kind = self.tls.download if self.private and self.tls is not None else Download
            self.begin(kind(self, path, file, offset))

    def ftp_STOR(self, path: str) -> None:
        custodian, declared, self._declared = self.house.custodian, self._declared, 0
        kept, at = self.kept, self._restart_position
        if at and kept is not None and custodian is not None:  # the same path: the policy has seen to it
            if self.type_a or at > kept.written:
                self.respond(f"554 REST goes up to {kept.written} here, in TYPE I.")
            else:
                kept.at = at
                self.begin(uploads.Upload(self, path, custodian, declared, kept))
            return
        self.drop_kept()
        if custodian is None or not custodian.here:
            self.respond(uploads.AWAY)
        else:  # it starts when the custodian has granted it
            self.transfer = uploads.Upload(self, path, custodian, declared)
            self.house.present.begun.add(self)

    def _list(self, verb: str, whole: str, place: Place, typed: str) -> None:
        """LIST, NLST, MLSD, and STAT of a path. The drop box is always empty to see."""
        path, pattern = whole, ""
        if verb != "MLSD" and _GLOB.search(typed.rpartition("/")[2]) and not filesystem.exists(path, self.layers):
            path, _slash, pattern = path.rpartition("/")  # RFC 959 leaves globbing to the server; mget needs it
        try:
            pieces = self._pieces(verb, path or "/", pattern, typed) if place is not Place.BOX else iter(())
        except BusyError:
            self.respond("450 Too many listings at once. Try again.")
            return
        except NotADirectoryError:
            if verb != "MLSD":
                raise
            self.respond("501 MLSD lists folders only.")
            return
        if verb == "STAT":
            self._source = pieces
            self.respond("213-Status follows:")
        else:
            self.begin(Stream(self, verb, whole, pieces, None))

    def _pieces(self, verb: str, path: str, pattern: str, typed: str) -> Iterator[bytes]:
        listings, now = self.site.listings, time.time()
        if verb == "NLST":
            return listings.names(path, now, pattern, typed, self.layers)
        if verb == "MLSD":
            return listings.facts(path, listing.FactLines(self._current_facts), now, self.layers)
        return listings.long(path, now, pattern, self.layers)

    def ftp_STAT(self, _argument: str) -> None:
        lines = [
            "211-Anonymous FTP",
            f" TYPE {'A' if self.type_a else 'I'}, STRU F, MODE S",
            " Logged in" if self.authenticated else " Not logged in",
        ]
        if self.transfer is not None:
            lines.append(f" {self.transfer.verb}: {self.transfer.moved} bytes")
        self.push("\r\n".join(lines) + "\r\n")
        self.respond("211 End of status.")

    # --- data connections

    def ftp_PASV(self, _argument: str) -> None:
        if ":" in self.client_ip:
            self.respond("522 PASV is for IPv4; use EPSV.")  # RFC 2428 section 2: a 227 cannot tell an IPv6 address
        elif self._listen():
            assert self.listener is not None
            here = self.house.passive_address(self.client_ip) or self.local()[1][0]
            self.respond(addresses.passive_reply(here, self.listener.port))

    def ftp_EPSV(self, argument: str) -> None:
        ours = "2" if ":" in self.client_ip else "1"
        if argument.upper() == "ALL":
            self._epsvall = True
            self.respond("200 EPSV ALL ok.")
        elif argument not in ("", ours):
            self.respond(f"522 Network protocol not supported, use ({ours}).")
        elif self._listen():
            assert self.listener is not None
            self.respond(f"229 Entering extended passive mode (|||{self.listener.port}|).")

    def _listen(self) -> bool:
        self.drop_data()
        try:
            self.listener = Passive(self)
        except OSError as error:
            self.house.complain("no passive port", self.client, os.strerror(error.errno or errno.EIO))
            self.respond("425 No data port is free. Try again.")
        return self.listener is not None

    def ftp_PORT(self, argument: str) -> None:
        try:
            address, port = addresses.parse_port(argument)
        except addresses.AddressError:
            self.respond("501 Not an address: h1,h2,h3,h4,p1,p2 expected.")
            return
        self._aim(address, port)

    def ftp_EPRT(self, argument: str) -> None:
        ours = 2 if ":" in self.client_ip else 1
        try:
            _protocol, address, port = addresses.parse_eprt(argument)
        except addresses.FamilyError:
            self.respond(f"522 Network protocol not supported, use ({ours}).")
            return
        except addresses.AddressError:
            self.respond("501 Not an address: |protocol|address|port| expected.")
            return
        if (":" in address) != (":" in self.client_ip):  # a mapped address is IPv4, whatever it is called
            self.respond(f"522 Network protocol not supported, use ({ours}).")
        else:
            self._aim(address, port)

    def _aim(self, address: str, port: int) -> None:
        """Note where to connect for the next transfer; the bounce attack of RFC 2577 ends here."""
        if not self.house.settings.active.enabled:
            self.respond("502 Active mode is off; use PASV or EPSV.")
            return
        why = addresses.refuse_target(self.client_ip, address, port)
        if why:
            self.house.counters.refuse("denied")
            self.house.complain("data connection refused", self.client, f"asked for {address} port {port}")
            self.respond(f"501 Refused: {why}.")
            self.strike()
            return
        self.drop_data()
        self.target = port
        self.respond("200 Data address noted.")

    # --- logging in

    def ftp_HOST(self, name: str) -> None:
        """RFC 7151: before the log-in a client names the site it wants; an address is that of the listener."""
        if self.authenticated or self.username:
            self.respond("503 HOST comes before USER.")
            return
        site = self._door if addresses.is_literal(name) else self.house.sites.of_host(name)
        refusal = "" if site is None or site is self.site else site.take(self.client_ip)
        if site is None or refusal:
            self.respond("504 There is no such site for you.")
            return
        if site is not self.site:
            self.site.leave()
            self.site = site
        self.respond(f"220 {site.banner}")

    def ftp_USER(self, line: str) -> None:
        if self.authenticated:
            self.flush_account()
        self.username = line  # RFC 2577 section 6: the same answer to every name
        self.respond("331 Password, please; for anonymous any will do.")

    def ftp_PASS(self, line: str) -> None:
        if self.authenticated or not self.username:
            self.respond("503 Send USER first." if not self.authenticated else "503 Already logged in.")
        elif self.username.lower() in ("anonymous", "ftp"):
            self.authenticated, self.password = True, line[:_SHOWN]
            self.fs = Cwd()
            self.house.present.begun.add(self)  # who is on shows whether it is logged in
            self.respond_lines(230, self._texts(self.house.settings.welcome_file), "Logged in.")
        else:
            self._waiting = True
            self.call_later(_LOGIN_DELAY_S, self._log_in_failed)

    def _log_in_failed(self) -> None:
        self._waiting = False
        self.attempted_logins += 1
        self.strike()
        self.house.counters.refuse("denied")
        self.house.complain("log-in refused", self.client, f"user {self.username[:_SHOWN]}")
        self.username = ""
        if self.attempted_logins >= _LOGINS:
            self.finish("too many wrong log-ins", "530 Not logged in. Good-bye.")
        else:
            self.respond("530 Not logged in.")

    def flush_account(self) -> None:
        """Back to the state before log-in (REIN, or USER again); a transfer would have held this back."""
        self.drop_data()
        self.drop_kept()
        self.authenticated = False
        self.house.present.begun.add(self)
        self.fs = None
        self.username = self.password = ""
        self._current_type = "a"
        self._restart_position = self._declared = 0
        self._current_facts = list(listing.DEFAULT_FACTS)
        self.algorithm = DEFAULT

    def ftp_REIN(self, _argument: str) -> None:
        self.flush_account()
        self._epsvall = False
        if self.site is not self._door and not self._door.take(self.client_ip):  # RFC 7151 section 3.2.2: as if fresh
            self.site.leave()
            self.site = self._door
        self.born = self.house.now
        self.respond("220 Ready for a new user.")

    def ftp_QUIT(self, _argument: str) -> None:
        self.finish("quit", "221 Good-bye.")

    # --- the rest

    def ftp_CWD(self, path: str) -> None:
        seen = self.site.seen(path)
        message: list[str] = []
        if self.site.rules.place(seen) is not Place.BOX:  # that one only the custodian can enter; its name is enough
            filesystem.enter(path, self.layers)
            message = self._texts(self.house.settings.message_file, seen)
        assert self.fs is not None
        self.fs.cwd = seen
        quoted = seen.replace('"', '""')
        self.respond_lines(250, message, f'"{quoted}" is the current directory.')

    ftp_CDUP = ftp_CWD

    def ftp_SIZE(self, path: str) -> None:
        if self.kept is not None and path == self.kept.path:  # for who wants to continue it, and for nobody else
            self.respond("550 SIZE is not told in TYPE A." if self.type_a else f"213 {self.kept.written}")
            return
        try:
            found = filesystem.look(path, self.layers)
            size = found.st_size
        except FileNotFoundError:
            found, size = None, self.size_of_sum(path)
        if self.type_a:
            self.respond("550 SIZE is not told in TYPE A.")  # it would take reading the whole file (RFC 3659 section 4)
        elif found is not None and filesystem.is_folder(found):
            raise FileNotFoundError(errno.ENOENT, "a folder")
        else:
            self.respond(f"213 {size}")

    def ftp_MDTM(self, path: str) -> None:
        found = filesystem.look(path, self.layers)
        if filesystem.is_folder(found):
            raise FileNotFoundError(errno.ENOENT, "a folder")
        self.respond(f"213 {listing.timestamp(found.st_mtime)}")

    def ftp_MLST(self, path: str) -> None:
        line = self.site.listings.fact(path, listing.FactLines(self._current_facts), self.layers)
        self.push("250-Facts follow:\r\n " + line.decode("utf-8", "surrogateescape"))
        self.respond("250 End.")

    def ftp_OPTS(self, line: str) -> None:
        name, _space, wanted = line.partition(" ")
        if name.upper() in ("UTF8", "UTF-8"):
            self.respond("200 Always in UTF8 mode.")
        elif name.upper() != "MLST":
            super().ftp_OPTS(line)
        elif " " in wanted or (wanted and ";" not in wanted):
            self.respond("501 Facts are expected, each with a semicolon behind it.")
        else:  # each once: named 500 times in one line a fact would stand 500 times in each line of MLSD
            self._current_facts = [fact for fact in dict.fromkeys(wanted.lower().split(";")) if fact in listing.FACTS]
            self.respond(("200 MLST OPTS " + "".join(f"{fact};" for fact in self._current_facts)).rstrip())

    def ftp_REST(self, line: str) -> None:
        if not (line.isascii() and line.isdigit()) or len(line) > 19 or int(line) > _MOST:
            self.respond("501 Not a position.")
        else:
            self._restart_position = int(line)
            self.respond(f"350 Restarting at {self._restart_position}.")

    def ftp_TYPE(self, line: str) -> None:
        known = _TYPES.get(line.upper())
        if known is None:
            self.respond("504 TYPE A (N) and TYPE I are implemented.")
            return
        self._current_type = known.lower()
        self.respond(f"200 Type set to {known}.")

    def ftp_ALLO(self, line: str) -> None:
        size = line.partition(" ")[0]
        if not (size.isascii() and size.isdigit()) or len(size) > 19 or int(size) > _MOST:
            self.respond("501 Not a size.")
        else:
            self._declared = int(size)
            self.respond("200 Noted.")

    def ftp_CLNT(self, _argument: str) -> None:
        self.respond("200 Noted.")

    def ftp_NOOP(self, _argument: str) -> None:
        self.respond("200 Ok.")
