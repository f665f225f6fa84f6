"""/etc/vsftpd.conf (vsftpd.conf(5)) to our settings: its anonymous side. Pure."""

from __future__ import annotations

import re

from appliance.migrate.common import Imported, Left, listens

_SECONDS = {
    "idle_session_timeout": "ftp.limits.idle_timeout",
    "data_connection_timeout": "ftp.limits.stall_timeout",
    "accept_timeout": "",
    "connect_timeout": "",
}
_LOCAL = re.compile(
    r"(local|user|guest|chroot|userlist|virtual|pam|check_shell|passwd|secure_email|email|tcp_wrap|nopriv)"
)
_NEVER = {
    "background", "listen_port", "secure_chroot_dir", "use_localtime", "xferlog_std_format", "dual_log_enable",
    "log_ftp_protocol", "syslog_enable", "vsftpd_log_file", "session_support", "setproctitle_enable", "use_sendfile",
    "async_abor_enable", "ascii_download_enable", "ls_recurse_enable", "text_userdb_names", "hide_ids", "anon_root",
    "no_anon_password", "ftp_username", "one_process_model", "seccomp_sandbox", "isolate", "isolate_network",
    "allow_writeable_chroot", "mdtm_write", "dirlist_enable", "download_enable", "force_dot_files",
    "anon_world_readable_only", "reverse_lookup_enable", "require_cert", "ssl_sslv2", "ssl_sslv3", "ssl_tlsv1",
    "ssl_ciphers", "strict_ssl_read_eof", "strict_ssl_write_shutdown", "debug_ssl", "allow_anon_ssl",
    "trans_chunk_size",
}  # fmt: skip
_WHY = {
    "ssl_ciphers": "the list of OpenSSL's defaults for TLS 1.2 and newer is used",
    "ssl_sslv2": "TLS 1.2 or newer only",
    "ssl_sslv3": "TLS 1.2 or newer only",
    "ssl_tlsv1": "TLS 1.2 or newer only",
    "use_localtime": "times are UTC, as RFC 3659 wants it",
    "log_ftp_protocol": "every transfer and refusal is logged; single commands are not",
    "dirlist_enable": "folders can be listed",
    "download_enable": "files can be fetched; leave only the drop box in the root instead",
    "ascii_download_enable": "ASCII mode follows RFC 959",
    "reverse_lookup_enable": "names of clients are not looked up",
}
_UPLOADS = "uploads go into one folder, ftp.incoming.path, and wait there for `appliance incoming release`"
_SAME = {  # what they ask for is so with us, if the value is this one
    "anon_world_readable_only": "YES", "dirlist_enable": "YES", "download_enable": "YES", "setproctitle_enable": "NO",
    "background": "NO", "reverse_lookup_enable": "NO", "hide_ids": "YES", "session_support": "NO",
}  # fmt: skip


def convert(name: str, text: str) -> Imported:
    """From the text of the file."""
    found: dict[str, tuple[int, str]] = {}
    made = Imported()
    for number, line in enumerate(text.splitlines(), 1):
        key, equals, value = line.strip().partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not equals:
            made.left.append(Left(name, number, line.strip(), "not a setting"))
            continue
        found[key.strip()] = (number, value.strip())
    _Reading(made, name, found).all()
    return made


class _Reading:
    """The settings of one file, each taken once."""

    def __init__(self, made: Imported, name: str, found: dict[str, tuple[int, str]]) -> None:
        self._made, self._name, self._found = made, name, found
        self._taken: set[str] = set()

    def all(self) -> None:
        """Carry over what there is, then tell of the rest."""
        self._made.put("tftp.enabled", False)
        self._place()
        self._uploads()
        self._data()
        self._limits()
        self._tls()
        self._texts()
        for key, (number, value) in sorted(self._found.items(), key=lambda item: item[1][0]):
            if key not in self._taken and _SAME.get(key) != value.upper():
                self._left(number, f"{key}={value}", self._why(key))

    def _why(self, key: str) -> str:
        if key in _WHY:
            return _WHY[key]
        if _LOCAL.search(key):
            return "accounts of this machine cannot log in: there is anonymous FTP only"
        return "nothing of ours needs it" if key in _NEVER else "no setting of vsftpd that we know"

    def _left(self, number: int, what: str, why: str) -> None:
        self._made.left.append(Left(self._name, number, what, why))

    def _text(self, key: str, default: str = "") -> str:
        self._taken.add(key)
        return self._found.get(key, (0, default))[1]

    def _yes(self, key: str, default: bool) -> bool:
        return self._text(key, "YES" if default else "NO").upper() in {"YES", "TRUE", "1"}

    def _number(self, key: str, base: int = 10) -> int:
        try:
            return int(self._text(key, "0"), base)
        except ValueError:
            self._left(self._found[key][0], f"{key}={self._found[key][1]}", "not a number")
            return 0

    def _place(self) -> None:
        put = self._made.put
        if not self._yes("anonymous_enable", True):
            number = self._found.get("anonymous_enable", (0, ""))[0]
            self._left(
                number, "anonymous_enable=NO", "we serve anonymous clients only; check that the root is meant for all"
            )
        if "local_enable" in self._found and self._yes("local_enable", False):
            self._left(self._found["local_enable"][0], "local_enable=YES", "accounts of this machine cannot log in")
        self._text("local_enable")
        put("ftp.root", self._text("anon_root") or "/srv/ftp")
        port = self._number("listen_port") or 21
        four, six = self._text("listen_address"), self._text("listen_address6")
        both = self._yes("listen_ipv6", False)
        only4 = self._yes("listen", not both) and not both
        texts = [*(listens(four, port) if four else []), *(listens(six, port) if six else [])]
        default = listens("", port)
        put("ftp.listen", texts or (default[:1] if only4 else default))
        if self._yes("xferlog_enable", False):
            put("observe.xferlog", self._log(self._text("xferlog_file") or "/var/log/vsftpd.log"))
        self._text("xferlog_file")

    def _log(self, path: str) -> str:
        ours = "/var/log/appliance/xferlog"
        number = self._found["xferlog_enable"][0]
        self._left(
            number, f"xferlog_file {path}", f"the unit writes below /var/log/appliance: {ours}, rotated by logrotate"
        )
        return ours

    def _uploads(self) -> None:
        put = self._made.put
        wanted = self._yes("write_enable", False) and self._yes("anon_upload_enable", False)
        if wanted:
            put("ftp.incoming.enabled", True)
            self._left(self._found["anon_upload_enable"][0], "anon_upload_enable=YES", _UPLOADS)
        for key in ("anon_mkdir_write_enable", "anon_other_write_enable"):
            if self._yes(key, False):
                self._left(self._found[key][0], f"{key}=YES", "clients can neither make folders nor rename or delete")
        for key in ("chown_uploads", "chown_username", "chown_upload_mode", "anon_umask", "file_open_mode"):
            if key in self._found:
                number, value = self._found[key]
                self._taken.add(key)
                self._left(number, f"{key}={value}", "uploads belong to their keeper, and a released file to root")
        if patterns := _patterns(self._text("deny_file")):
            put("ftp.incoming.deny_names", patterns)
            put("ftp.hide", [*patterns, ".ht*", ".ftpaccess", ".git", ".ssh"])
        if hidden := _patterns(self._text("hide_file")):
            put(
                "ftp.hide",
                [*dict.fromkeys([*self._made.get("ftp.hide", [".ht*", ".ftpaccess", ".git", ".ssh"]), *hidden])],
            )

    def _data(self) -> None:
        put = self._made.put
        first, last = self._number("pasv_min_port"), self._number("pasv_max_port")
        if first and last >= first:
            put("ftp.passive_ports", f"{first}-{last}")
        if not self._yes("pasv_enable", True):
            self._left(self._found["pasv_enable"][0], "pasv_enable=NO", "passive mode cannot be switched off")
        if address := self._text("pasv_address"):
            if re.fullmatch(r"[0-9.]+", address):
                put("ftp.passive_address", address)
            else:
                self._left(self._found["pasv_address"][0], f"pasv_address={address}", "write the address, not a name")
        self._text("pasv_addr_resolve")
        put("ftp.active.enabled", self._yes("port_enable", True))
        if self._made.get("ftp.active.enabled"):
            twenty = self._yes("connect_from_port_20", False)
            put("ftp.active.source_port", (self._number("ftp_data_port") or 20) if twenty else 0)
        for key in ("pasv_promiscuous", "port_promiscuous"):
            if self._yes(key, False):
                self._left(self._found[key][0], f"{key}=YES", "data goes only to the client of the control connection")

    def _limits(self) -> None:
        put = self._made.put
        for key, ours in (("max_clients", "sessions"), ("max_per_ip", "sessions_per_client")):
            if number := self._number(key):
                put(f"ftp.limits.{ours}", number)
            elif key == "max_per_ip":
                put("ftp.limits.sessions_per_client", 50)  # theirs: no limit
        if rate := self._number("anon_max_rate"):
            put("ftp.limits.rate_per_session", max(rate, 1024))
        for key, ours in _SECONDS.items():
            if (seconds := self._number(key)) and ours:
                put(ours, f"{seconds}s")

    def _tls(self) -> None:
        put = self._made.put
        if not self._yes("ssl_enable", False):
            for key in ("rsa_cert_file", "rsa_private_key_file"):
                self._text(key)
            return
        forced = self._yes("force_anon_logins_ssl", False) or self._yes("force_anon_data_ssl", False)
        put("ftp.tls.mode", "required" if forced else "optional")
        put("ftp.tls.certificate", self._text("rsa_cert_file") or "/usr/share/ssl/certs/vsftpd.pem")
        if key := self._text("rsa_private_key_file"):
            put("ftp.tls.key", key)
        put("ftp.tls.session_reuse", "required" if self._yes("require_ssl_reuse", True) else "optional")
        if self._yes("implicit_ssl", False):
            put("ftp.tls.implicit_listen", self._made.get("ftp.listen"))
            self._left(
                self._found["implicit_ssl"][0],
                "implicit_ssl=YES",
                "give ftp.listen and implicit_listen ports of their own",
            )

    def _texts(self) -> None:
        if banner := self._text("ftpd_banner"):
            self._made.put("ftp.banner", banner[:200])
        if path := self._text("banner_file"):
            self._left(
                self._found["banner_file"][0],
                f"banner_file={path}",
                "copy it into the root and name it in ftp.banner_file",
            )
        message = self._text("message_file", ".message")
        self._made.put("ftp.message_file", message if self._yes("dirmessage_enable", False) else None)


def _patterns(text: str) -> list[str]:
    """{a,b} of vsftpd: a list of shell patterns."""
    inner = text[1:-1] if text.startswith("{") and text.endswith("}") else text
    return [word.strip() for word in inner.split(",") if word.strip() and "/" not in word]
