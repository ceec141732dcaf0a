# Spans and log events of a Fastly service, for spanrelay.
#
# A complete main VCL: Fastly's boilerplate plus the code that writes the lines. Use it as the service's custom VCL, or
# copy the code between `spanrelay >` and `< spanrelay` into your own subroutines. It requires a logging endpoint named
# `spanrelay` with placement `none`; terraform/main.tf and fastly-cli.sh in this folder create one.
#
#   one span for each request at the edge, and a child span at the shield
#   one log event for each fetch and for each error response of the VCL itself; the relay attaches them to the span
#
# The client's `traceparent` is continued and passed to the shield and the origin. Anyone can send one; to ignore it,
# unset it in vcl_recv where fastly.ff.visits_this_service is 0.
#
# Rules that keep a line valid:
#   - json.escape wraps everything that a client, an origin or a configuration can influence
#   - a space separates a quote from a closing brace, because `"}` would end VCL's long string
#   - attribute lists begin with an unconditional attribute, and each further one includes its leading comma
#
# Change `www` in `"service.name"` to the name of your service: once, in vcl_recv.

sub vcl_recv {
  declare local var.otel_flags STRING;

  # spanrelay >
  if (req.restarts == 0) {
    # These headers are internal to this service; discard values from clients.
    unset req.http.x-otel-trace;
    unset req.http.x-otel-span;
    unset req.http.x-otel-parent;
    unset req.http.x-otel-resource;
    # The match whose groups are used must come last.
    if (req.http.traceparent !~ "^00-(0{32}-|[0-9a-f]{32}-0{16}-)"
      && req.http.traceparent ~ "^00-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})$") {
      set req.http.x-otel-trace = re.group.1;
      set req.http.x-otel-parent = re.group.2;
      set var.otel_flags = re.group.3;
    } else {
      # Starts with a non-zero digit, because an id of zeros is invalid.
      set req.http.x-otel-trace = randomstr(1, "123456789abcdef") randomstr(31, "0123456789abcdef");
      set var.otel_flags = "01";
      # Belongs to the trace that was not continued.
      unset req.http.tracestate;
    }
    set req.http.x-otel-span = randomstr(1, "123456789abcdef") randomstr(15, "0123456789abcdef");
    # Sent to the shield or the origin, which continue the trace below this span.
    set req.http.traceparent = "00-" req.http.x-otel-trace "-" req.http.x-otel-span "-" var.otel_flags;
    # Resource of every line.
    set req.http.x-otel-resource =
      {"{"attributes":[{"key":"service.name","value":{"stringValue":"www" }},"}
      {"{"key":"host.name","value":{"stringValue":""} json.escape(server.identity) {"" }},"}
      {"{"key":"fastly.service_id","value":{"stringValue":""} json.escape(req.service_id) {"" }},"}
      {"{"key":"telemetry.sdk.language","value":{"stringValue":"vcl" }}]}"};
  }
  # < spanrelay

#FASTLY recv

  if (req.method != "HEAD" && req.method != "GET" && req.method != "FASTLYPURGE") {
    return(pass);
  }
  return(lookup);
}

sub vcl_hash {
  set req.hash += req.url;
  set req.hash += req.http.host;
#FASTLY hash
  return(hash);
}

sub vcl_hit {
#FASTLY hit
  return(deliver);
}

sub vcl_miss {
#FASTLY miss

  # spanrelay >
  # As in vcl_pass: the shield or the origin receives traceparent but none of these headers.
  unset bereq.http.x-otel-trace;
  unset bereq.http.x-otel-span;
  unset bereq.http.x-otel-parent;
  unset bereq.http.x-otel-resource;
  # < spanrelay

  return(fetch);
}

sub vcl_pass {
#FASTLY pass

  # spanrelay >
  unset bereq.http.x-otel-trace;
  unset bereq.http.x-otel-span;
  unset bereq.http.x-otel-parent;
  unset bereq.http.x-otel-resource;
  # < spanrelay
}

sub vcl_fetch {
  declare local var.otel_now STRING;
  declare local var.otel_severity STRING;

#FASTLY fetch

  # spanrelay >
  # Seconds with six decimals and without the point are microseconds.
  set var.otel_now = regsub(time.units("us", now), "\.", "");
  set var.otel_severity = {""severityNumber":9,"severityText":"INFO","};
  if (beresp.status >= 500) {
    set var.otel_severity = {""severityNumber":17,"severityText":"ERROR","};
  }
  log {"syslog "} req.service_id {" spanrelay :: "}
    {"{"resourceLogs":[{"resource":"} req.http.x-otel-resource {","}
    {""scopeLogs":[{"scope":{"name":"spanrelay.vcl" },"logRecords":[{"}
    {""traceId":""} req.http.x-otel-trace {"","spanId":""} req.http.x-otel-span {"","}
    {""timeUnixNano":""} var.otel_now {"000","} var.otel_severity
    {""eventName":""} if(beresp.status >= 500, "fetch.error", "fetch") {"","}
    {""attributes":[{"key":"fastly.backend","value":{"stringValue":""} json.escape(beresp.backend.name) {"" }},"}
    {"{"key":"network.peer.address","value":{"stringValue":""} beresp.backend.ip {"" }},"}
    {"{"key":"http.response.status_code","value":{"intValue":""} beresp.status {"" }},"}
    {"{"key":"fastly.cacheable","value":{"boolValue":"} if(beresp.cacheable, "true", "false") {"}},"}
    {"{"key":"fastly.ttl","value":{"stringValue":""} beresp.ttl {"" }}]}]}]}]}"};
  # < spanrelay

  return(deliver);
}

sub vcl_error {
  declare local var.otel_now STRING;

#FASTLY error

  # spanrelay >
  set var.otel_now = regsub(time.units("us", now), "\.", "");
  log {"syslog "} req.service_id {" spanrelay :: "}
    {"{"resourceLogs":[{"resource":"} req.http.x-otel-resource {","}
    {""scopeLogs":[{"scope":{"name":"spanrelay.vcl" },"logRecords":[{"}
    {""traceId":""} req.http.x-otel-trace {"","spanId":""} req.http.x-otel-span {"","}
    {""timeUnixNano":""} var.otel_now {"000","severityNumber":"}
    if(obj.status >= 500, "17", "9") {","severityText":""} if(obj.status >= 500, "ERROR", "INFO") {"","}
    {""eventName":"vcl.error","body":{"stringValue":""} json.escape(obj.response) {"" },"}
    {""attributes":[{"key":"http.response.status_code","value":{"intValue":""} obj.status {"" }}]}]}]}]}"};
  # < spanrelay

  return(deliver);
}

sub vcl_deliver {
#FASTLY deliver
  return(deliver);
}

sub vcl_log {
  declare local var.otel_method STRING;
  declare local var.otel_parent STRING;
  declare local var.otel_error STRING;
  declare local var.otel_query STRING;

#FASTLY log

  # spanrelay >
  # Methods known to the semantic conventions; a client can send any other.
  set var.otel_method = "_OTHER";
  if (req.method ~ "^(CONNECT|DELETE|GET|HEAD|OPTIONS|PATCH|POST|PUT|QUERY|TRACE)$") {
    set var.otel_method = req.method;
  }
  set var.otel_parent = "";
  if (req.http.x-otel-parent) {
    set var.otel_parent = {""parentSpanId":""} req.http.x-otel-parent {"","};
  }
  set var.otel_error = "";
  if (resp.status >= 500) {
    set var.otel_error = {",{"key":"error.type","value":{"stringValue":""} resp.status {"" }}"};
  }
  set var.otel_query = "";
  if (req.url.qs != "") {
    set var.otel_query = {",{"key":"url.query","value":{"stringValue":""} json.escape(req.url.qs) {"" }}"};
  }
  log {"syslog "} req.service_id {" spanrelay :: "}
    {"{"resourceSpans":[{"resource":"} req.http.x-otel-resource {","}
    {""scopeSpans":[{"scope":{"name":"spanrelay.vcl" },"spans":[{"}
    {""traceId":""} req.http.x-otel-trace {"","spanId":""} req.http.x-otel-span {"","} var.otel_parent
    {""name":""} if(var.otel_method == "_OTHER", "HTTP", var.otel_method) {"","kind":2,"}
    {""startTimeUnixNano":""} time.start.usec {"000","endTimeUnixNano":""} time.end.usec {"000","}
    {""status":{"code":"} if(resp.status >= 500, "2", "0") {"},"attributes":["}
    # OpenTelemetry's stable semantic conventions for HTTP.
    {"{"key":"http.request.method","value":{"stringValue":""} var.otel_method {"" }},"}
    {"{"key":"http.response.status_code","value":{"intValue":""} resp.status {"" }},"}
    {"{"key":"url.scheme","value":{"stringValue":""} json.escape(req.protocol) {"" }},"}
    {"{"key":"url.path","value":{"stringValue":""} json.escape(req.url.path) {"" }},"}
    {"{"key":"server.address","value":{"stringValue":""} json.escape(req.http.host) {"" }},"}
    {"{"key":"client.address","value":{"stringValue":""} json.escape(req.http.fastly-client-ip) {"" }},"}
    {"{"key":"user_agent.original","value":{"stringValue":""} json.escape(req.http.user-agent) {"" }},"}
    {"{"key":"network.protocol.version","value":{"stringValue":""} json.escape(regsub(req.proto, "^HTTP/", "")) {"" }},"}
    {"{"key":"http.response.body.size","value":{"intValue":""} resp.body_bytes_written {"" }}"}
    var.otel_query var.otel_error
    # Names of Fastly's "OpenTelemetry in VCL", for existing dashboards. Remove the ones that you do not use.
    {",{"key":"http.method","value":{"stringValue":""} json.escape(req.method) {"" }},"}
    {"{"key":"http.target","value":{"stringValue":""} json.escape(req.url) {"" }},"}
    {"{"key":"http.host","value":{"stringValue":""} json.escape(req.http.host) {"" }},"}
    {"{"key":"http.protocol","value":{"stringValue":""} json.escape(req.protocol) {"" }},"}
    {"{"key":"http.client_ip","value":{"stringValue":""} json.escape(req.http.fastly-client-ip) {"" }},"}
    {"{"key":"http.user_agent","value":{"stringValue":""} json.escape(req.http.user-agent) {"" }},"}
    {"{"key":"http.status_code","value":{"stringValue":""} resp.status {"" }},"}
    # Attributes specific to Fastly.
    {"{"key":"fastly.server_role","value":{"stringValue":""} if(fastly.ff.visits_this_service > 0, "shield", "edge") {"" }},"}
    {"{"key":"fastly.visits_this_service","value":{"stringValue":""} fastly.ff.visits_this_service {"" }},"}
    {"{"key":"fastly.restarts","value":{"stringValue":""} req.restarts {"" }},"}
    {"{"key":"fastly.pop","value":{"stringValue":""} json.escape(server.datacenter) {"" }},"}
    {"{"key":"fastly.server_id","value":{"stringValue":""} json.escape(server.identity) {"" }},"}
    {"{"key":"fastly.vcl_version","value":{"stringValue":""} req.vcl.version {"" }},"}
    {"{"key":"fastly.state","value":{"stringValue":""} json.escape(fastly_info.state) {"" }}"}
    {"]}]}]}]}"};
  # < spanrelay
}
