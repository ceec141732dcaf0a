//! A fake of CircleCI's API. Its good responses are those of `proto-fixtures`, written after the documented ones.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;

use super::collector::record;
use super::{Answer, Recorded, in_time, listen_again};

/// An API on a free port, or on one of the test's own.
pub(crate) struct Api {
    address: SocketAddr,
    state: Arc<State>,
}

struct State {
    rule: Mutex<Arc<Rule>>,
    requests: Mutex<Vec<Recorded>>,
    came: Notify,
}

/// Behaviour towards a request; `None` for a path that the API does not have.
type Rule = dyn Fn(&Recorded) -> Option<Answer> + Send + Sync;

/// Returns a file of the job's fixture.
pub(crate) fn fixture(name: &str) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/proto-fixtures/circleci/github-oauth-job/");
    std::fs::read_to_string(format!("{folder}{name}")).unwrap()
}

/// Returns the responses of CircleCI's cloud.
pub(crate) fn cloud(request: &Recorded) -> Option<Answer> {
    let file = match request.path.as_str() {
        "/api/v3/jobs/79b8e7b5-f308-48cc-849a-bf804eb08389" => "steps.v3.json",
        "/api/v2/project/github/acme/shop/job/9001" => "steps.v2.json",
        _ => return None,
    };
    Some(Answer::json(200, &fixture(file)))
}

/// Returns the responses of CircleCI Server.
pub(crate) fn server(request: &Recorded) -> Option<Answer> {
    let is_known = request.path == "/api/v1.1/project/github/acme/shop/9001";
    is_known.then(|| Answer::json(200, &fixture("steps.v1.1.json")))
}

// === impl Api ===

impl Api {
    pub(crate) async fn start(rule: impl Fn(&Recorded) -> Option<Answer> + Send + Sync + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), rule)
    }

    /// Listens on a given address.
    pub(crate) async fn at(
        address: SocketAddr,
        rule: impl Fn(&Recorded) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        Self::on(listen_again(address).await, rule)
    }

    /// Gives these responses to the first requests, and then follows the rule.
    pub(crate) async fn with_answers(
        answers: impl IntoIterator<Item = Answer>,
        rule: impl Fn(&Recorded) -> Option<Answer> + Send + Sync + 'static,
    ) -> Self {
        let answers = Mutex::new(answers.into_iter().collect::<Vec<_>>());
        answers.lock().unwrap().reverse();
        Self::start(move |request| answers.lock().unwrap().pop().or_else(|| rule(request))).await
    }

    fn on(listener: TcpListener, rule: impl Fn(&Recorded) -> Option<Answer> + Send + Sync + 'static) -> Self {
        let address = listener.local_addr().unwrap();
        let rule: Arc<Rule> = Arc::new(rule);
        let state =
            Arc::new(State { rule: Mutex::new(rule), requests: Mutex::default(), came: Notify::new() });
        tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                loop {
                    let Ok((stream, _)) = listener.accept().await else { continue };
                    tokio::spawn(serve(stream, Arc::clone(&state)));
                }
            }
        });
        Self { address, state }
    }

    /// Changes the behaviour.
    pub(crate) fn set(&self, rule: impl Fn(&Recorded) -> Option<Answer> + Send + Sync + 'static) {
        *self.state.rule.lock().unwrap() = Arc::new(rule);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns all requests so far.
    pub(crate) fn requests(&self) -> Vec<Recorded> {
        self.state.requests.lock().unwrap().clone()
    }

    /// Waits until this many requests have come.
    pub(crate) async fn has_seen(&self, count: usize) {
        let enough = async {
            loop {
                let came = self.state.came.notified();
                if self.requests().len() >= count {
                    return;
                }
                came.await;
            }
        };
        in_time(&format!("{count} requests to the API"), enough).await;
    }
}

async fn serve(stream: TcpStream, state: Arc<State>) {
    let service = service_fn(|request: Request<Incoming>| {
        let state = Arc::clone(&state);
        async move {
            let Some(request) = record(request).await else { return Err(io::Error::other("cut short")) };
            let rule = Arc::clone(&state.rule.lock().unwrap());
            let answer = rule(&request).unwrap_or_else(|| Answer::json(404, "{\"message\":\"Not found\"}"));
            state.requests.lock().unwrap().push(request);
            state.came.notify_waiters();
            answer.into_response().await
        }
    });
    // A response that closes the connection ends it with an error.
    http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.ok();
}
