//! The tower stack around every request, outermost layer first. Authentication, limits of the body and the request
//! timeout concern only requests with data: [`super::routes`] applies them in order.

use std::any::Any;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderName, Method, Request, Response};
use http_body::Body;
use http_body_util::Either;
use hyper::body::Incoming;
use tower::layer::layer_fn;
use tower::{BoxError, Service, ServiceBuilder, ServiceExt, service_fn};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::request_id::{PropagateRequestIdLayer, RequestId, SetRequestIdLayer};
use tower_http::trace::TraceLayer;
use tracing::{Span, debug, error, info_span};

use super::body::Inbound;
use super::grpc;
use super::own_span;
use super::reply::{self, Reply};
use super::request_id::RequestIds;
use super::routes::{Route, RouteState, Routes};
use crate::config::ServerConfig;
use crate::telemetry::LineLimit;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Returns the service for the public port.
pub(crate) fn stack(
    state: RouteState,
    config: &ServerConfig,
) -> impl Service<
    Request<Incoming>,
    Response = Response<impl Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static {
    let routes = Arc::new(Routes::new(state, config));
    let (named, counting) = (Arc::clone(&routes), Arc::clone(&routes));
    let panics = Arc::new(LineLimit::default());
    let scheme = if config.tls.is_some() { "https" } else { "http" };
    ServiceBuilder::new()
        // Outside everything: calls of gRPC are requests of OTLP/HTTP to all other layers.
        .and_then(grpc::as_call)
        .map_request(grpc::as_http)
        // Logs and metrics use the route; the client chooses the path.
        .map_request(move |request| with_route(&named, request))
        // One id for the logs and, below the trace layer, for the client.
        .layer(SetRequestIdLayer::new(REQUEST_ID, RequestIds::new()))
        .layer(
            TraceLayer::new_for_http()
                .make_span_with(span)
                .on_request(())
                .on_response(answered)
                .on_body_chunk(())
                .on_eos(())
                .on_failure(()),
        )
        .layer(PropagateRequestIdLayer::new(REQUEST_ID))
        // Outside all layers that can reject a request: a body that is dropped unread is drained.
        .map_request(Inbound::wrap)
        // Outside the panic layer: its responses are counted, too, and HEAD and a shell get no body from it.
        .layer(layer_fn(move |inner| finished(Arc::clone(&counting), inner)))
        // A panic affects only one request.
        .layer(CatchPanicLayer::custom(move |_: Box<dyn Any + Send>| panicked(&panics)))
        .service(service_fn(move |request: Request<Inbound>| {
            let routes = Arc::clone(&routes);
            async move {
                let route = route_of(&request);
                // Inside the panic layer: a span that is dropped by a panic is marked as failed.
                let span = own_span::begin(routes.traces(), route, &request, scheme);
                let reply = routes.reply(route, request, &span).await;
                own_span::answered(&span, reply.status());
                Ok::<_, Infallible>(reply)
            }
        }))
}

/// Adds the route to the request, and removes the client's request id, which would appear in the logs.
fn with_route<B>(routes: &Routes, mut request: Request<B>) -> Request<B> {
    let route = routes.route(request.method(), request.uri().path(), request.headers());
    request.headers_mut().remove(REQUEST_ID);
    request.extensions_mut().insert(route);
    request
}

fn route_of<B>(request: &Request<B>) -> Route {
    *request.extensions().get().expect("with_route runs before")
}

fn span<B>(request: &Request<B>) -> Span {
    let id = request.extensions().get::<RequestId>().and_then(|id| id.header_value().to_str().ok());
    info_span!(
        "receive",
        method = method_name(request.method()),
        route = route_of(request).name(),
        request_id = id,
    )
}

fn answered<B>(response: &Response<B>, took: Duration, span: &Span) {
    // Not a field of the span, which the log formats again for each later field.
    let (status, took_ms) = (response.status().as_u16(), took.as_secs_f64() * 1000.0);
    debug!(parent: span, status, took_ms, "answered");
}

/// Returns the method for the log, which shows known methods only.
pub(super) fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        Method::PATCH => "PATCH",
        _ => "other",
    }
}

/// Counts every response, and marks those to calls, also of unknown methods. Removes the body for HEAD, and for a shell unless the
/// response is a success.
fn finished<S, B>(
    routes: Arc<Routes>,
    inner: S,
) -> impl Service<
    Request<Inbound>,
    Response = Response<impl Body<Data = Bytes, Error = BoxError> + Send + 'static>,
    Error = Infallible,
    Future: Send + 'static,
> + Clone
+ Send
+ 'static
where
    S: Service<Request<Inbound>, Response = Response<B>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send + 'static,
    B: Body<Data = Bytes, Error = BoxError> + Send + 'static,
{
    service_fn(move |request: Request<Inbound>| {
        let (method, route) = (request.method().clone(), route_of(&request));
        let is_unknown = route == Route::Unknown && grpc::is_call(request.headers());
        let call = request.extensions().get::<grpc::Call>().copied().or(is_unknown.then_some(grpc::Call));
        let routes = Arc::clone(&routes);
        let answer = inner.clone().oneshot(request);
        async move {
            let response = answer.await?;
            routes.count(route, response.status());
            let response = match route {
                Route::Page(page) if page.is_shell => reply::inert(response),
                _ => response.map(Either::Right),
            };
            let mut response = reply::for_method(&method, response);
            if let Some(call) = call {
                response.extensions_mut().insert(call);
            }
            Ok(response)
        }
    })
}

fn panicked(lines: &LineLimit) -> Reply {
    // The payload may contain input. The panic hook has logged the location.
    if let Some(suppressed) = lines.admit(Instant::now()) {
        error!(suppressed = suppressed.shown(), "handler panicked");
    }
    reply::panicked()
}
