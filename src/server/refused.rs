//! Rejections: reasons for which a request with data does not reach its receiver.
//!
//! In: the reason. Out: the report for log and inspector, and the response.

use http::Version;

use super::body::ReadError;
use super::body::inflate::{InflateError, UnknownCoding};
use super::dialect::{Dialect, UnknownMediaType};
use super::head::LengthRequired;
use super::reply::{self, Reply};
use super::routes::WEBHOOK_MAX_BYTES;
use crate::grpc::PREFIX_BYTES;
use crate::receiver::Unauthorized;
use crate::relay::{Declined, LimitedCause, Throttled};
use crate::telemetry::logging::chain;

const MAX_BODY_KEY: &str = "server.max_request_body_size";
const LARGE_BODY: &str = "raise server.max_request_body_size, or lower the logging endpoint's request_max_bytes so that it sends less at once";
const INFLIGHT_KEY: &str = "server.max_inflight_bytes";
const INFLIGHT: &str = "raise server.max_inflight_bytes and the memory limit of the process with it, or have senders send less at once; webhooks get half of it";
const OVERLOADED_KEY: &str = "server.max_concurrent_requests";
const OVERLOADED: &str = "raise server.max_concurrent_requests if there is memory for it, or look for slow senders; webhooks get half of it";

/// The reason why a request with data ended before the relay processed it.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Unauthorized(#[from] Unauthorized),
    #[error(transparent)]
    Throttled(#[from] Throttled),
    #[error("too many concurrent requests")]
    Overloaded,
    #[error(transparent)]
    LengthRequired(#[from] LengthRequired),
    #[error(transparent)]
    UnknownMediaType(#[from] UnknownMediaType),
    #[error(transparent)]
    UnknownCoding(#[from] UnknownCoding),
    #[error(transparent)]
    Unread(#[from] ReadError),
    #[error(transparent)]
    Undecodable(#[from] InflateError),
    /// gRPC message beyond its limit, in the words by which clients of gRPC recognize that the message itself is at fault.
    #[error("received message larger than max ({max_bytes} bytes)")]
    MessageTooLarge { max_bytes: u64 },
    #[error("not one gRPC message: its length is not that of the body")]
    MalformedMessage,
    #[error("the relay did not respond in time")]
    TooLate,
}

// === impl Refused ===

impl Refused {
    /// Returns the rejection for a gRPC call, whose body is a message.
    pub(super) fn of_call(self) -> Self {
        match self {
            // That limit is the body's, which holds the header of the message, too.
            Self::Unread(ReadError::TooLarge { max_bytes }) => {
                Self::MessageTooLarge { max_bytes: max_bytes - PREFIX_BYTES as u64 }
            }
            Self::Undecodable(InflateError::TooLarge { max_bytes }) => Self::MessageTooLarge { max_bytes },
            Self::Unread(ReadError::CutShort) => Self::MalformedMessage,
            other => other,
        }
    }

    /// Describes the rejection for the log and the inspector. Returns `None` for reasons that the relay has already
    /// reported.
    pub(super) fn declined(&self) -> Option<Declined> {
        let (key, remedy) = match self.key() {
            Some(OVERLOADED_KEY) => (Some(OVERLOADED_KEY), Some(OVERLOADED)),
            Some(MAX_BODY_KEY) => (Some(MAX_BODY_KEY), Some(LARGE_BODY)),
            Some(INFLIGHT_KEY) => (Some(INFLIGHT_KEY), Some(INFLIGHT)),
            key => (key, None),
        };
        Some(Declined {
            cause: self.cause()?,
            reason: chain(self).to_string(),
            request: None,
            key: key.map(Into::into),
            remedy: remedy.map(Into::into),
        })
    }

    fn cause(&self) -> Option<LimitedCause> {
        Some(match self {
            Self::Unauthorized(_) | Self::Throttled(_) => return None,
            Self::Overloaded => LimitedCause::Overloaded,
            Self::LengthRequired(_) => LimitedCause::LengthRequired,
            Self::UnknownMediaType(_) => LimitedCause::UnknownMediaType,
            Self::UnknownCoding(_) => LimitedCause::UnknownEncoding,
            Self::Unread(ReadError::TooLarge { .. })
            | Self::MessageTooLarge { .. }
            | Self::Undecodable(InflateError::TooLarge { .. }) => LimitedCause::TooLarge,
            Self::Unread(ReadError::OverBudget(over)) | Self::Undecodable(InflateError::OverBudget(over)) => {
                match over.never_fits {
                    Some(_) => LimitedCause::TooLarge,
                    None => LimitedCause::InflightFull,
                }
            }
            Self::Unread(ReadError::TooSlow { .. }) => LimitedCause::TooSlow,
            Self::Unread(ReadError::CutShort) | Self::MalformedMessage => LimitedCause::CutShort,
            Self::Undecodable(InflateError::Corrupt { .. }) => LimitedCause::CorruptEncoding,
            Self::TooLate => LimitedCause::TimedOut,
        })
    }

    /// Returns the configuration key of the limit that the request exceeded.
    fn key(&self) -> Option<&'static str> {
        match self {
            // The limit of webhooks is not configurable.
            Self::Unread(ReadError::TooLarge { max_bytes })
            | Self::Undecodable(InflateError::TooLarge { max_bytes })
                if *max_bytes != WEBHOOK_MAX_BYTES =>
            {
                Some(MAX_BODY_KEY)
            }
            Self::MessageTooLarge { .. } => Some("server.max_grpc_message_size"),
            Self::Unread(ReadError::OverBudget(_)) | Self::Undecodable(InflateError::OverBudget(_)) => {
                Some(INFLIGHT_KEY)
            }
            Self::Overloaded => Some(OVERLOADED_KEY),
            Self::Unread(ReadError::TooSlow { .. }) => Some("server.body_timeout"),
            Self::TooLate => Some("server.request_timeout"),
            _ => None,
        }
    }

    pub(super) fn reply(self, version: Version, dialect: Dialect) -> Reply {
        match self {
            Self::Unauthorized(cause) => reply::unauthorized(cause, dialect),
            Self::Throttled(cause) => reply::throttled(cause, dialect),
            Self::Overloaded => reply::overloaded(dialect),
            Self::LengthRequired(cause) => reply::length_required(cause, version, dialect),
            Self::UnknownMediaType(cause) => reply::unknown_media_type(cause),
            Self::UnknownCoding(cause) => reply::unknown_coding(cause, dialect),
            Self::Unread(cause) => reply::unread(cause, version, dialect),
            Self::MessageTooLarge { .. } => reply::message_too_large(&self.to_string(), dialect),
            Self::MalformedMessage => reply::malformed_message(&self.to_string(), dialect),
            Self::Undecodable(cause) => reply::undecodable(&cause, dialect),
            Self::TooLate => reply::too_late(dialect),
        }
    }
}
