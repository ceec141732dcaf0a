# A Fastly service with the VCL of this folder and a logging endpoint that sends to spanrelay. The `logging_https` block is
# what an existing service needs.

terraform {
  required_providers {
    fastly = {
      source  = "fastly/fastly"
      version = ">= 8.1.0"
    }
  }
}

variable "domain" {
  description = "The domain that the service answers for"
  type        = string
}

variable "origin" {
  description = "Host name of the origin"
  type        = string
}

variable "relay_url" {
  description = "Address of spanrelay's fastly receiver, such as https://relay.example.com/fastly"
  type        = string
}

variable "relay_token" {
  description = "What receivers.fastly.auth.values of the relay's configuration lists, without `Bearer `"
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
    # The VCL addresses the endpoint by this name.
    name = "spanrelay"
    url  = var.relay_url

    method       = "POST"
    content_type = "application/x-ndjson"
    header_name  = "Authorization"
    header_value = "Bearer ${var.relay_token}"

    # The line alone: `classic`, the API's default, puts a syslog prefix before it.
    message_type = "blank"
    # Newline delimited.
    json_format = "2"
    # The VCL writes the lines; the generated format must not come on top.
    placement = "none"
    # Seconds between two batches. processors.span_events.wait of the relay is to be twice this or more.
    period            = 5
    compression_codec = "zstd"
  }

  force_destroy = true
}
