# A Fastly service with the VCL of this folder and a logging endpoint for spanrelay. An existing service needs only the
# `logging_https` block.

terraform {
  required_providers {
    fastly = {
      source  = "fastly/fastly"
      version = ">= 8.1.0"
    }
  }
}

variable "domain" {
  description = "Domain of the service"
  type        = string
}

variable "origin" {
  description = "Host name of the origin"
  type        = string
}

variable "relay_url" {
  description = "URL of spanrelay's fastly receiver, such as https://relay.example.com/fastly"
  type        = string
}

variable "relay_token" {
  description = "One of receivers.fastly.auth.values of the relay's configuration, without `Bearer `"
  type        = string
  sensitive   = true
}

resource "fastly_service_vcl" "www" {
  name = "www"

  domain {
    name = var.domain
  }

  backend {
    name              = "origin"
    address           = var.origin
    port              = 443
    use_ssl           = true
    override_host     = var.origin
    ssl_cert_hostname = var.origin
    ssl_sni_hostname  = var.origin
  }

  vcl {
    name    = "spanrelay"
    content = file("${path.module}/../spanrelay.vcl")
    main    = true
  }

  logging_https {
    # The VCL refers to the endpoint by this name.
    name = "spanrelay"
    url  = var.relay_url

    method       = "POST"
    content_type = "application/x-ndjson"
    header_name  = "Authorization"
    header_value = "Bearer ${var.relay_token}"

    # The line alone: `classic`, the API's default, adds a syslog prefix.
    message_type = "blank"
    # Newline delimited.
    json_format = "2"
    # The VCL writes the lines; the generated format must not be added.
    placement = "none"
    # Seconds between batches. processors.span_events.wait of the relay should be at least twice this.
    period            = 5
    compression_codec = "zstd"
  }

  force_destroy = true
}
