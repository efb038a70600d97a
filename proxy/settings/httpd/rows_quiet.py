"""The rows of what changes nothing that a client sees here, and of sections. PURE."""

from __future__ import annotations

from proxy.settings.httpd.table import Fate, Place, Row

_FILES = "about files, which are not served: where requests would be answered from files, DocumentRoot is refused"
_PROCESSES = "about Apache's processes, memory and sockets; ours are `workers` and `[limits]`"
_LOGS = "logs go to standard error, the access log apart"

_QUIET = (
    ("RedisConnPoolTTL RedisTimeout", "about the connections to Redis; ours are in `[stapling.redis]`"),
    ("LoadModule LoadFile", "what Apache's modules do is built in, or refused by the directives' names"),
    (
        (
            "AcceptFilter AsyncRequestWorkerFactor ChrootDir CoreDumpDirectory EnableMMAP EnableSendfile "
            "FlushMaxPipelined FlushMaxThreshold GracefulShutdownTimeout LimitInternalRecursion ListenBacklog "
            "ListenCoresBucketsRatio ListenTCPDeferAccept MaxClients MaxConnectionsPerChild MaxMemFree "
            "MaxRequestsPerChild MaxRequestWorkers MaxSpareThreads MinSpareThreads PidFile ReadBufferSize "
            "ReceiveBufferSize RLimitCPU RLimitMEM RLimitNPROC ScoreBoardFile SendBufferSize ServerLimit "
            "StartServers Suexec ThreadLimit ThreadsPerChild ThreadStackSize WatchdogInterval "
            "RequestReadTimeout ProxyIOBufferSize ProxyReceiveBufferSize BalancerGrowth BalancerInherit "
            "BalancerPersist"
        ),
        _PROCESSES,
    ),
    (
        (
            "AcceptPathInfo AccessFileName AddDefaultCharset AllowOverride AllowOverrideList CGIPassAuth "
            "CGIVar ContentDigest DefaultType ExtendedStatus FileETag ForceType LimitXMLRequestBody "
            "MaxRangeOverlaps MaxRangeReversals MaxRanges Options AliasPreservePath DirectoryCheckHandler "
            "DirectoryIndex DirectoryIndexRedirect DirectorySlash AddAlt AddAltByEncoding AddAltByType "
            "AddDescription AddIcon AddIconByEncoding AddIconByType DefaultIcon FancyIndexing HeaderName "
            "IndexHeadInsert IndexIgnore IndexIgnoreReset IndexOptions IndexOrderDefault IndexStyleSheet "
            "ReadmeName AddCharset AddEncoding AddHandler AddInputFilter AddLanguage AddOutputFilter AddType "
            "DefaultLanguage ModMimeUsePathInfo MultiviewsMatch RemoveCharset RemoveEncoding RemoveHandler "
            "RemoveInputFilter RemoveLanguage RemoveOutputFilter RemoveType TypesConfig"
        ),
        _FILES,
    ),
    (
        (
            "AllowEncodedSlashes HttpProtocolOptions MergeSlashes MergeTrailers QualifyRedirectURL "
            "RedirectRelative RegexDefaultOptions RegisterHttpMethod SeeRequestTail StrictHostCheck "
            "TraceEnable UseCanonicalName UseCanonicalPhysicalPort NameVirtualHost Port Protocol Protocols "
            "ProtocolsHonorOrder HostnameLookups ServerAdmin ServerSignature ServerTokens"
        ),
        "how requests are read is ours, and stricter; the protocol is HTTP/1.1",
    ),
    ("ErrorLog ErrorLogFormat BufferedLogs LogIOTrackTTFB", _LOGS),
    ("AuthName AuthMerging AuthzSendForbiddenOnFailure", "nobody is asked for a password"),
    (
        (
            "NoProxy Proxy100Continue ProxyBadHeader ProxyDomain ProxyMaxForwards ProxyStatus "
            "ProxyWebsocketFallbackToProxyHttp RemoteIPProxiesHeader"
        ),
        "how backends are spoken to is ours",
    ),
    (
        "BrowserMatch BrowserMatchNoCase SetEnvIf SetEnvIfExpr SetEnvIfNoCase PassEnv SetEnv UnsetEnv",
        "there is no environment; what depends on it, with env=, is refused",
    ),
    (
        (
            "MDActivationDelay MDBaseServer MDCACertificateFile MDCAChallenges MDCertificateAgreement "
            "MDCertificateAuthority MDCertificateCheck MDCertificateFile MDCertificateKeyFile "
            "MDCertificateProtocol MDCertificateStatus MDChallengeDns01 MDChallengeDns01Version "
            "MDCheckInterval MDContactEmail MDDriveMode MDExternalAccountBinding MDHttpProxyCACertificateFile "
            "MDInitialDelay MDMatchNames MDMember MDMembers MDMessageCmd MDMustStaple MDNotifyCmd MDPortMap "
            "MDPrivateKeys MDProfile MDProfileMandatory MDRenewMode MDRenewViaARI MDRenewWindow "
            "MDRetryFailover MDServerStatus MDStoreDir MDStoreLocks MDWarnWindow"
        ),
        "about certificates that mod_md fetches: without MDomain there are none",
    ),
    ("RewriteBase RewriteOptions", "nothing is rewritten but redirections to https"),
    (
        "SSLCryptoDevice SSLRandomSeed SSLPassPhraseDialog SSLRenegBufferSize SSLSessionTicketKeyFile",
        "keys have no passphrase, randomness is the system's, nothing is renegotiated, keys of tickets are made anew",
    ),
    ("SSLRequireSSL", "sites always have TLS"),
    ("SSLVHostSNIPolicy", "for a Host of another site see `http.other_hosts`"),
    (
        (
            "SSLOCSPDefaultResponder SSLOCSPNoVerify SSLOCSPOverrideResponder SSLOCSPResponderCertificateFile "
            "SSLOCSPResponderTimeout SSLOCSPResponseMaxAge SSLOCSPResponseTimeSkew SSLOCSPUseRequestNonce"
        ),
        "about OCSP of client certificates, and without a meaning unless SSLOCSPEnable is on",
    ),
    (
        (
            "SSLProxyCARevocationFile SSLProxyCARevocationPath SSLProxyCheckPeerCN SSLProxyCipherSuite "
            "SSLProxyMachineCertificateChainFile SSLProxyProtocol SSLProxyVerifyDepth"
        ),
        "TLS towards backends is OpenSSL's own choice, and always verified",
    ),
)

_SECTIONS = (
    Row("<VirtualHost", Fate.USED, "a site; without TLS: `redirect`", place=Place.MAIN),
    Row(
        "<Location", Fate.USED, "`/` is the whole site; others take ProxyPass and ProxyPassReverse", place=Place.SERVER
    ),
    Row("<Proxy", Fate.USED, "`balancer://NAME`: several servers for one `upstream`", place=Place.SERVER),
    *(
        Row(f"<{name}", Fate.QUIET, "about files, which are not served: what is in it is not looked at")
        for name in ("Directory", "DirectoryMatch", "Files", "FilesMatch")
    ),
    *(
        Row(f"<{name}", Fate.USED, "refused, unless nothing in it would change what a client sees", place=Place.SERVER)
        for name in ("LocationMatch", "ProxyMatch")
    ),
    *(
        Row(f"<{name}", Fate.USED, "refused, unless nothing in it would change what a client sees")
        for name in ("If", "ElseIf", "Else", "Limit", "LimitExcept", "RequireAll", "RequireAny")
    ),
    Row("<RequireNone", Fate.REFUSED, "who may see what is not decided here", place=Place.INSIDE),
    *(
        Row(f"<{name}", Fate.REFUSED, "who may see what is not decided here", place=Place.SERVER)
        for name in ("AuthnProviderAlias", "AuthzProviderAlias")
    ),
    *(
        Row(f"<{name}", Fate.REFUSED, "certificates are not fetched from a CA", place=Place.SERVER)
        for name in ("MDomain", "MDomainSet")
    ),
)

ROWS = (*(Row(name, Fate.QUIET, note) for names, note in _QUIET for name in names.split()), *_SECTIONS)
