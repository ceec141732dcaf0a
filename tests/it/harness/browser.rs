//! A real headless browser: Chromium, controlled through chromedriver (W3C WebDriver over HTTP).
//!
//! Debian has both: `apt-get install chromium chromium-driver`. Where one is missing, a test reports that it is
//! skipped, and passes unless `SPANRELAY_REQUIRE_BROWSER` is set.

use std::io;
use std::net::SocketAddr;
use std::process::Stdio;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use super::{Ask, Reply, eventually, in_time, process_id, skipped};

/// Environment variable that makes a missing browser a failure.
const REQUIRED: &str = "SPANRELAY_REQUIRE_BROWSER";
/// Environment variable with the folder for pictures of pages.
const SCREENSHOTS: &str = "SPANRELAY_SCREENSHOTS";

/// A browser with one page.
pub(crate) struct Browser {
    driver: Child,
    address: SocketAddr,
    session: String,
}

/// Size and colour scheme of the screen.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Screen {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) scheme: &'static str,
}

pub(crate) const DESK: Screen = Screen { width: 1280, height: 900, scheme: "light" };
pub(crate) const PHONE: Screen = Screen { width: 390, height: 844, scheme: "light" };

// === impl Browser ===

impl Browser {
    /// Opens a browser; reports and returns `None` where there is none.
    pub(crate) async fn open(test: &str, screen: Screen) -> Option<Self> {
        let mut command = Command::new("chromedriver");
        command.arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut driver = match command.spawn() {
            Ok(driver) => driver,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                skipped(test, "chromedriver", REQUIRED);
                return None;
            }
            Err(error) => panic!("chromedriver: {error}"),
        };
        let address = in_time("chromedriver says its port", port_of(&mut driver)).await;
        let mut browser = Self { driver, address, session: String::new() };
        let options = json!({
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--disable-background-networking", "--disable-component-update", "--no-first-run"],
        });
        let capabilities = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let reply = browser.send("/session", capabilities.clone()).await;
        if reply.text().contains("cannot find Chrome binary") {
            skipped(test, "chromium", REQUIRED);
            return None;
        }
        let session = browser.value_of(&format!("/session {capabilities}"), &reply);
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser.show_on(screen).await;
        Some(browser)
    }

    pub(crate) async fn show_on(&self, Screen { width, height, scheme }: Screen) {
        let is_phone = width < 600;
        let metrics = json!({"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_phone});
        self.devtools("Emulation.setDeviceMetricsOverride", metrics).await;
        let features = json!({"features": [{"name": "prefers-color-scheme", "value": scheme}]});
        self.devtools("Emulation.setEmulatedMedia", features).await;
    }

    pub(crate) async fn go_to(&self, url: &str) {
        self.ask("/url", json!({"url": url})).await;
    }

    /// Returns the value of an expression in the page.
    pub(crate) async fn value(&self, expression: &str) -> Value {
        self.ask("/execute/sync", json!({"script": format!("return {expression}"), "args": []})).await
    }

    /// Returns the visible text of the first element that matches.
    pub(crate) async fn text(&self, selector: &str) -> String {
        let text =
            self.value(&format!("(document.querySelector({selector:?}) || {{}}).innerText || ''")).await;
        text.as_str().unwrap().to_owned()
    }

    /// Waits until an expression is true.
    pub(crate) async fn until(&self, expression: &str) {
        eventually(expression, async || (self.value(expression).await == true).then_some(())).await;
    }

    /// Clicks an element as a user would, once it is there. The page may redraw it between the search and the click.
    pub(crate) async fn click(&self, selector: &str) {
        eventually(&format!("click {selector}"), async || {
            let search = format!("/session/{}/element", self.session);
            let found = self.send(&search, json!({"using": "css selector", "value": selector})).await;
            if is_absent(&found, "no such element") {
                return None;
            }
            let element = self.value_of(&search, &found);
            let id = element.as_object().unwrap().values().next().unwrap().as_str().unwrap().to_owned();
            let click = format!("/session/{}/element/{id}/click", self.session);
            let reply = self.send(&click, json!({})).await;
            (!is_absent(&reply, "stale element reference")).then(|| self.value_of(&click, &reply))
        })
        .await;
    }

    /// Presses keys, one after another, in the focused element.
    pub(crate) async fn press(&self, keys: &[&str]) {
        let strokes: Vec<Value> = keys
            .iter()
            .flat_map(|key| ["keyDown", "keyUp"].map(|kind| json!({"type": kind, "value": key})))
            .collect();
        let actions = json!({"actions": [{"type": "key", "id": "keyboard", "actions": strokes}]});
        self.ask("/actions", actions).await;
    }

    /// Returns the messages of the console since the last call.
    pub(crate) async fn console(&self) -> Vec<String> {
        let entries = self.ask("/se/log", json!({"type": "browser"})).await;
        let entries = entries.as_array().unwrap().iter();
        entries.map(|entry| entry["message"].as_str().unwrap().to_owned()).collect()
    }

    /// Returns every address that was requested since the last call.
    pub(crate) async fn addresses(&self) -> Vec<String> {
        let entries = self.ask("/se/log", json!({"type": "performance"})).await;
        let messages = entries.as_array().unwrap().iter().map(|entry| {
            serde_json::from_str::<Value>(entry["message"].as_str().unwrap()).unwrap()["message"].clone()
        });
        messages
            .filter(|message| message["method"] == "Network.requestWillBeSent")
            .map(|message| message["params"]["request"]["url"].as_str().unwrap().to_owned())
            .collect()
    }

    /// Allows the page to use the clipboard, as a user's click does.
    pub(crate) async fn allow_clipboard(&self) {
        let permissions = json!({"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]});
        self.devtools("Browser.grantPermissions", permissions).await;
    }

    /// Writes a picture of the whole page, if the variable `SPANRELAY_SCREENSHOTS` names a folder.
    pub(crate) async fn picture(&self, name: &str) {
        let Some(folder) = std::env::var_os(SCREENSHOTS) else { return };
        let size = self.value("[innerWidth, document.documentElement.scrollHeight]").await;
        let clip = json!({"x": 0, "y": 0, "width": size[0], "height": size[1], "scale": 1});
        let whole = json!({"captureBeyondViewport": true, "clip": clip});
        let taken = self.devtools("Page.captureScreenshot", whole).await;
        let png = STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.png")), png).unwrap();
    }

    pub(crate) async fn close(self) {
        let session = format!("/session/{}", self.session);
        Ask::new("DELETE", &session, "").with("host", "localhost").to(self.address).await;
    }

    async fn devtools(&self, command: &str, parameters: Value) -> Value {
        self.ask("/goog/cdp/execute", json!({"cmd": command, "params": parameters})).await
    }

    async fn ask(&self, path: &str, body: Value) -> Value {
        let command = format!("{path} {body}");
        let reply = self.send(&format!("/session/{}{path}", self.session), body).await;
        self.value_of(&command, &reply)
    }

    async fn send(&self, path: &str, body: Value) -> Reply {
        let ask = Ask::post(path, body.to_string()).with("content-type", "application/json");
        ask.with("host", "localhost").to(self.address).await
    }

    fn value_of(&self, command: &str, reply: &Reply) -> Value {
        assert_eq!(reply.status, 200, "{command}: {}", reply.text());
        reply.json()["value"].clone()
    }
}

impl Drop for Browser {
    /// The driver would leave the browser running; both are in one process group.
    fn drop(&mut self) {
        if let Some(id) = self.driver.id() {
            // It may have ended by itself.
            rustix::process::kill_process_group(process_id(id), Signal::KILL).ok();
        }
    }
}

async fn port_of(driver: &mut Child) -> SocketAddr {
    let mut lines = BufReader::new(driver.stdout.take().unwrap()).lines();
    let port = loop {
        let line = lines.next_line().await.unwrap().expect("chromedriver says its port before it ends");
        let port = line.strip_suffix('.').and_then(|line| line.rsplit_once("successfully on port "));
        if let Some((_, port)) = port {
            break port.parse().unwrap();
        }
    };
    // Its later output must be read, so that it does not block.
    tokio::spawn(async move { while let Ok(Some(_)) = lines.next_line().await {} });
    SocketAddr::from(([127, 0, 0, 1], port))
}

/// Reports whether the driver says that an element is not there, in its own words.
fn is_absent(reply: &Reply, error: &str) -> bool {
    reply.status == 404 && reply.json()["value"]["error"] == error
}
