"""Mutants of proxies, authorities, and what goes wrong on the way to a token."""

from __future__ import annotations

from tests.mutants import Mutant

RULES = "tests/unit/adf/network/test_route.py"
NETWORK = "tests/integration/adf/network/test_route.py"
CLIENT = "tests/integration/adf/api/test_client.py"
TRANSPORT = "tests/integration/adf/network/test_transport.py"
CAUSES = "tests/unit/adf/auth/test_token_causes.py"
EMULATED = "tests/integration/adf/auth/test_credential.py"

MUTANTS = [
    # Proxies.
    Mutant("lower-case proxy variable not preferred", "adf/network/proxies.py", '(f"{url.scheme}_proxy", f"{url.scheme}_proxy".upper(),', '(f"{url.scheme}_proxy".upper(), f"{url.scheme}_proxy",', f"{NETWORK} -k use_the_same_proxy"),
    Mutant("ALL_PROXY ignored", "adf/network/proxies.py", ', "all_proxy", "ALL_PROXY")', ")", f"{NETWORK} -k use_the_same_proxy"),
    Mutant("proxy without a scheme not read", "adf/network/proxies.py", 'value if "://" in value else f"http://{value}"', "value", f"{NETWORK} -k use_the_same_proxy"),
    Mutant("lower-case no_proxy variable not preferred", "adf/network/proxies.py", 'environ.get("no_proxy") or environ.get("NO_PROXY")', 'environ.get("NO_PROXY") or environ.get("no_proxy")', f"{NETWORK} -k use_the_same_proxy"),
    Mutant("proxy used for exempt hosts", "adf/network/proxies.py", "if any(_is_exempt(url, entry) for", "if any(False for", f"{NETWORK} -k use_the_same_proxy"),
    Mutant("networks in NO_PROXY ignored", "adf/network/proxies.py", "ip is not None and network is not None and ip in network", "False", f"{NETWORK} -k use_the_same_proxy"),
    Mutant("host whose name ends alike exempt", "adf/network/proxies.py", 'host.endswith(f".{name}")', "host.endswith(name)", f"{NETWORK} -k use_the_same_proxy"),
    Mutant("port of an exempt host ignored", "adf/network/proxies.py", 'parts["port"] not in (None, str(_port(url)))', "False", f"{NETWORK} -k use_the_same_proxy"),
    Mutant("loopback through a proxy", "adf/network/proxies.py", "if ip is not None and (ip.is_loopback or ip.is_link_local):", "if False:", f"{NETWORK} -k use_the_same_proxy"),
    Mutant("link-local address through a proxy", "adf/network/proxies.py", " or ip.is_link_local", "", RULES),
    Mutant("identity endpoint through a proxy", "adf/network/proxies.py", "return any((host, _port(url)) == _host_and_port(environ.get(name, \"\")) for name in ENDPOINT_VARIABLES)", "return False", f"{NETWORK} -k never_goes_through"),
    Mutant("unsupported kind of proxy accepted", "adf/network/proxies.py", "if host and url.scheme not in _PORTS:", "if False:", RULES),
    Mutant("password of a proxy treated as its host", "adf/network/proxies.py", 'url.path not in ("", "/") or ', "", RULES),
    Mutant("password with a colon breaks the address", "adf/network/proxies.py", "    except ValueError:\n        host, port = \"\", None", "    except ZeroDivisionError:\n        host, port = \"\", None", RULES),
    Mutant("user of a proxy shown in texts", "adf/network/proxies.py", "'***@' if self.user is not None else ''", "f'{self.user}:{self.password}@' if self.user is not None else ''", f"{NETWORK} -k 'refusal_of_a_proxy or proxy_that_refused'"),
    Mutant("encoded password of a proxy sent without decoding", "adf/network/proxies.py", 'unquote(url.password or "")', 'url.password or ""', f"{NETWORK} -k password"),
    Mutant("password of a proxy sent by one client only", "adf/network/blocking_session.py", 'return {"Proxy-Authorization": authorization} if authorization else {}', "return {}", f"{NETWORK} -k password"),
    Mutant("proxy not used on the loop", "adf/network/loop_session.py", "proxy=proxy.address if proxy else None,", "proxy=None,", f"{NETWORK} -k use_the_same_proxy"),
    Mutant("proxy not used, blocking", "adf/network/blocking_session.py", "if route.proxy is not None:", "if False:", f"{NETWORK} -k use_the_same_proxy"),
    Mutant("proxy variables read by requests itself", "adf/network/blocking_session.py", "session.trust_env = False", "session.trust_env = True", f"{TRANSPORT} -k netrc"),
    Mutant("proxy variables read by aiohttp itself", "adf/network/loop_session.py", "trust_env=False", "trust_env=True", f"{TRANSPORT} -k netrc"),
    # Requests that were not sent.
    Mutant("refusal of a proxy treated as ambiguous, blocking", "adf/network/blocking_session.py", "        with connecting():\n", "        if True:\n", f"{NETWORK} -k 'refusal_of_a_proxy or proxy_that_refused'"),
    Mutant("refusal of a proxy treated as ambiguous, on the loop", "adf/network/loop_session.py", "        with connecting():\n", "        if True:\n", f"{NETWORK} -k 'refusal_of_a_proxy or proxy_that_refused'"),
    Mutant("broken handshake treated as ambiguous", "adf/network/route.py", "        e.add_note(NOT_SENT)\n", "", f"{CLIENT} -k handshake"),
    Mutant("silent proxy waited for without end", "adf/network/loop_session.py", "3 * timeout.sock_connect if req.proxy and timeout.sock_connect else None", "None", f"{NETWORK} -k silent_proxy --timeout=60"),
    Mutant("proxy that refused not named, ARM", "adf/api/error_mapping.py", "if refused is not None:", "if False:", f"{NETWORK} -k refusal_of_a_proxy"),
    Mutant("proxy that refused not named, sign-in", "adf/auth/token_errors.py", "if refused is not None:", "if False:", f"{NETWORK} -k sign_in_error"),
    # Certificate authorities.
    Mutant("bundle of the connection dropped for ARM", "adf/network/route.py", "bundle or authorities_in(environ)", "authorities_in(environ)", f"{NETWORK} -k replaces"),
    Mutant("bundle of the connection replaces authorities for sign-in", "adf/network/route.py", "authorities_in(environ) + _bundle(ca_bundle)", "(_bundle(ca_bundle) or authorities_in(environ))", f"{NETWORK} -k replaces"),
    Mutant("bundle of the connection dropped for sign-in", "adf/auth/credential.py", "ca_bundle=settings.ca_bundle", "ca_bundle=None", f"{NETWORK} -k ca_bundle_of_its_connection"),
    Mutant("credential shared by connections with other authorities", "adf/auth/credential.py", "settings.cloud.authority_host, settings.ca_bundle, place)", "settings.cloud.authority_host, None, place)", f"{NETWORK} -k ca_bundle_of_its_connection"),
    Mutant("REQUESTS_CA_BUNDLE ignored", "adf/network/authorities.py", '("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")', '("CURL_CA_BUNDLE",)', f"{NETWORK} -k trust_the_same"),
    Mutant("SSL_CERT_DIR ignored", "adf/network/authorities.py", '("SSL_CERT_FILE", "SSL_CERT_DIR") if', '("SSL_CERT_FILE",) if', f"{NETWORK} -k trust_the_same"),
    Mutant("certifi's authorities trusted too", "adf/network/blocking_session.py", '        conn.cert_reqs = "CERT_REQUIRED"\n', "        super().cert_verify(conn, url, verify, cert)\n", f"{NETWORK} -k both_clients"),
    Mutant("missing authorities not named", "adf/network/authorities.py", "if not is_there and not may_be_empty:", "if False:", f"{NETWORK} -k missing_authorities"),
    Mutant("missing CA bundle not reported", "adf/network/authorities.py", "if not is_there and not may_be_empty:", "if False:", f"{CLIENT} -k ca_bundle"),
    Mutant("CA bundle without certificates not reported", "adf/network/authorities.py", "    except OSError as e:", "    except ZeroDivisionError as e:", f"{CLIENT} -k ca_bundle"),
    Mutant("empty directory of certificates used", "adf/network/authorities.py", "if not read and not may_be_empty:", "if False:", RULES),
    Mutant("certifi not used if the system has no certificates", "adf/network/authorities.py", "and Path(path).stat().st_size > 0", "", RULES),
    Mutant("certificate of Service Fabric not pinned", "adf/auth/identity_sources.py", "if how.source is Source.SERVICE_FABRIC:", "if False:", f"{NETWORK} -k service_fabric"),
    Mutant("user with a colon breaks aiohttp", "adf/network/proxies.py", ' or ":" in unquote(url.username or "")', "", RULES),
    Mutant("untrusted certificate of ARM not reported", "adf/api/error_mapping.py", "    if is_untrusted(error):", "    if False:", f"{CLIENT} -k certificate"),
    Mutant("untrusted certificate of the sign-in service not reported", "adf/auth/token_errors.py", "if how.route is not None and is_untrusted(error):", "if False:", f"{NETWORK} -k trust_the_same"),
    # Causes of token errors.
    Mutant("code of the sign-in service treated as its prefix", "adf/auth/token_causes.py", "if re.fullmatch(known, code)", "if re.match(known, code)", CAUSES),
    Mutant("expired service account token not explained", "adf/auth/token_causes.py", '(r"700024|500133|50013", _EXPIRED)', '(r"700024x", _EXPIRED)', f"{EMULATED} -k sign_in_service"),
    Mutant("unknown tenant not explained", "adf/auth/token_causes.py", '(r"90002|', '(r"', f"{EMULATED} -k sign_in_service"),
    Mutant("block by a policy not explained", "adf/auth/token_causes.py", '(r"53\\d{3,4}|50131", _BLOCKED)', '(r"50131", _BLOCKED)', f"{EMULATED} -k sign_in_service"),
    Mutant("temporary failure of the sign-in service treated as a refusal", "adf/auth/token_errors.py", " or is_passing(text)", "", f"{EMULATED} -k documented_temporary"),
    Mutant("unreadable key file of Arc not explained", "adf/auth/token_errors.py", "    if how.source is Source.ARC:", "    if False:", CAUSES),
    Mutant("error of requests treated as an unreadable file", "adf/auth/token_errors.py", ' and type(error).__module__ == "builtins"', "", CAUSES),
    Mutant("expiry as a date treated as a temporary failure", "adf/auth/token_errors.py", "(answer.is_json or _is_form(_reading(error)))", "answer.is_json", f"{EMULATED} -k form"),
    Mutant("success without a token treated as a temporary failure", "adf/auth/token_errors.py", "(answer.is_json or _is_form(_reading(error)))", "_is_form(_reading(error))", f"{EMULATED} -k form"),
    Mutant("page in place of a token not named", "adf/auth/token_errors.py", "if answer is not None and answer.sign_of_proxy is not None:\n        return _answered", "if False:\n        return _answered", f"{EMULATED} -k answer_of_a_proxy"),
    Mutant("closed port given to another program", "emulator/server.py", "            self._closed_port = _closed_port(self._ports[0])\n", "", "tests/integration/emulator/test_server.py -k stays_the_emulators"),
]  # fmt: skip
