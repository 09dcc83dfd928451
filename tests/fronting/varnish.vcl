# hookcast --heartbeat 1s
# varnishd -a :8080 -f /etc/varnish/hookcast.vcl
vcl 4.1;

backend default {
    .host = "127.0.0.1";
    .port = "3000";
    .first_byte_timeout = 60s;
    .between_bytes_timeout = 30s;
}

sub vcl_recv {
    if (req.url ~ "^/api/webhook") {
        # Requests with cookies would not be collapsed.
        unset req.http.Cookie;
    }
}

sub vcl_backend_fetch {
    if (bereq.url ~ "^/api/webhook") {
        # Varnish asks for gzip itself. With --compress-streams it would hold events back from clients
        # that do not.
        unset bereq.http.Accept-Encoding;
    }
}

sub vcl_backend_response {
    set beresp.do_stream = true;
    set beresp.do_gzip = false;
    # A finished stream must not be replayed.
    set beresp.grace = 0s;
    set beresp.keep = 0s;
    if (beresp.http.Cache-Control ~ "private|no-store") {
        # For a second, not for two minutes as in the built-in code: with --cdn-fanout the next
        # answer of this address may be one to share.
        set beresp.ttl = 1s;
        set beresp.uncacheable = true;
        return (deliver);
    }
}
