//! A real headless Chromium, driven over its DevTools protocol, for tests of the pages that we write.
//!
//! The protocol is JSON over a WebSocket; of its hundreds of methods we need a dozen. What a page should be like in any
//! case, whoever wrote it, is checked by `browser/page_checks.js`.

#![allow(dead_code, reason = "each test file uses a part of it")]

use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};
use tempfile::TempDir;
use tungstenite::{Message, WebSocket};

const NAMES: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// How long the browser may take over one answer, also on a machine that does much else.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser of its own, with an empty profile, that reaches no network.
pub(crate) struct Browser {
    child: Child,
    control: Wire,
    address: String,
    dir: TempDir,
}

/// How a page is looked at.
#[derive(Clone, Copy)]
pub(crate) struct View {
    pub(crate) width: u32,
    pub(crate) height: u32,
    pub(crate) dark: bool,
}

impl View {
    pub(crate) const fn light(width: u32, height: u32) -> Self {
        Self { width, height, dark: false }
    }
    pub(crate) const fn dark(width: u32, height: u32) -> Self {
        Self { width, height, dark: true }
    }
}

/// Every width and colour scheme that a page must be good at.
pub(crate) const VIEWS: [(&str, View); 4] = [
    ("1280-light", View::light(1280, 800)),
    ("1280-dark", View::dark(1280, 800)),
    ("1920-light", View::light(1920, 1080)),
    ("1920-dark", View::dark(1920, 1080)),
];

impl Browser {
    /// Starts it, or says that nothing is checked where there is none.
    ///
    /// # Panics
    /// Where there is none and `REQUIRE_CHROMIUM` is 1, and where it does not start.
    pub(crate) fn launch() -> Option<Self> {
        let Some(program) = program() else {
            let advice = "no Chromium in PATH or CHROME: install it with `apt-get install chromium`";
            assert!(variable("REQUIRE_CHROMIUM").as_deref() != Some("1"), "{advice}");
            // Not by `eprintln!`, which a test that passes keeps to itself.
            let _ = writeln!(std::io::stderr(), "THE PAGE WAS NOT CHECKED: {advice}");
            return None;
        };
        let dir = tempfile::tempdir().expect("a directory for the profile");
        let mut child = Command::new(&program)
            // Its own sandbox does not start as root; the pages are ours, and the network is cut off below.
            .args([
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-dev-shm-usage",
                "--no-first-run",
            ])
            .args(["--disable-extensions", "--disable-background-networking", "--disable-component-update"])
            .args(["--disable-sync", "--force-color-profile=srgb", "--lang=en", "--remote-debugging-port=0"])
            .arg("--host-resolver-rules=MAP * ~NOTFOUND")
            .arg(format!("--user-data-dir={}", dir.path().join("profile").display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let endpoint = endpoint(&mut child);
        let address = endpoint.split('/').nth(2).expect("ws://address/path").to_owned();
        Some(Self { control: Wire::open(&endpoint, &address), child, address, dir })
    }

    /// Opens a page that a function made.
    pub(crate) fn open(&mut self, html: &str, view: View) -> Page {
        let path = self.dir.path().join("page.html");
        std::fs::write(&path, html).expect("the page is written");
        self.open_file(&path, view)
    }

    /// Opens a file, and waits until it is loaded and drawn.
    pub(crate) fn open_file(&mut self, path: &Path, view: View) -> Page {
        let target = self.control.call("Target.createTarget", json!({ "url": "about:blank" }));
        let id = target["targetId"].as_str().expect("a target").to_owned();
        let endpoint = format!("ws://{}/devtools/page/{id}", self.address);
        let mut page = Page { wire: Wire::open(&endpoint, &self.address) };
        for domain in ["Page", "Runtime", "Log", "Network"] {
            page.wire.call(&format!("{domain}.enable"), json!({}));
        }
        page.view(view);
        page.wire.call("Page.navigate", json!({ "url": format!("file://{}", path.display()) }));
        page.wire.wait("Page.loadEventFired");
        page.settle();
        page
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Asked to close, it leaves no helper behind that still writes into the profile.
        if self.control.send("Browser.close", &json!({})).is_err() {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// One page in a tab of its own.
pub(crate) struct Page {
    wire: Wire,
}

impl Page {
    /// Sets width, height and colour scheme.
    pub(crate) fn view(&mut self, view: View) {
        let View { width, height, dark } = view;
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.wire.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = if dark { "dark" } else { "light" };
        let features = json!([{ "name": "prefers-color-scheme", "value": scheme },
                              { "name": "prefers-reduced-motion", "value": "reduce" }]);
        self.wire.call("Emulation.setEmulatedMedia", json!({ "features": features }));
        self.settle();
    }

    /// The value of an expression, waited for if it is a promise.
    pub(crate) fn evaluate(&mut self, expression: &str) -> Value {
        let call = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.wire.call("Runtime.evaluate", call);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {}", answer["exceptionDetails"]);
        answer["result"].get("value").cloned().unwrap_or(Value::Null)
    }

    /// The text of the first element that a selector finds.
    pub(crate) fn text(&mut self, selector: &str) -> String {
        let text = self.evaluate(&format!("document.querySelector({selector:?})?.innerText"));
        text.as_str().unwrap_or_else(|| panic!("there is no {selector}")).to_owned()
    }

    /// Waits until what was asked for is drawn.
    pub(crate) fn settle(&mut self) {
        self.evaluate(
            "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done(0))))",
        );
    }

    /// Presses and releases one key, by its name in the DOM (`j`, `?`, `ArrowDown`, `Enter`).
    pub(crate) fn press(&mut self, key: &str) {
        let mut down = json!({ "type": "keyDown", "key": key, "windowsVirtualKeyCode": virtual_key(key) });
        if key.chars().count() == 1 {
            down["text"] = json!(key);
        } else if key == "Enter" {
            down["text"] = json!("\r");
        }
        self.wire.call("Input.dispatchKeyEvent", down);
        let up = json!({ "type": "keyUp", "key": key, "windowsVirtualKeyCode": virtual_key(key) });
        self.wire.call("Input.dispatchKeyEvent", up);
        self.settle();
    }

    /// Types into what has the focus.
    pub(crate) fn type_text(&mut self, text: &str) {
        self.wire.call("Input.insertText", json!({ "text": text }));
        self.settle();
    }

    /// Clicks into the middle of the first element that a selector finds, brought into sight before.
    pub(crate) fn click(&mut self, selector: &str) {
        let (x, y) = self.middle(selector);
        for kind in ["mousePressed", "mouseReleased"] {
            let event = json!({ "type": kind, "x": x, "y": y, "button": "left", "clickCount": 1 });
            self.wire.call("Input.dispatchMouseEvent", event);
        }
        self.settle();
    }

    /// What was last copied.
    pub(crate) fn clipboard(&mut self) -> String {
        self.wire.call("Browser.grantPermissions", json!({ "permissions": ["clipboardReadWrite"] }));
        self.wire.call("Emulation.setFocusEmulationEnabled", json!({ "enabled": true }));
        self.evaluate("navigator.clipboard.readText()").as_str().expect("text").to_owned()
    }

    /// Turns the wheel over an element; `control` holds the Ctrl key meanwhile.
    pub(crate) fn wheel(&mut self, selector: &str, delta: i32, control: bool) {
        let (x, y) = self.middle(selector);
        let event = json!({ "type": "mouseWheel", "x": x, "y": y, "deltaX": 0, "deltaY": delta,
                            "modifiers": if control { 2 } else { 0 } });
        self.wire.call("Input.dispatchMouseEvent", event);
        self.settle();
    }

    fn middle(&mut self, selector: &str) -> (f64, f64) {
        let script = format!(
            "(() => {{ const e = document.querySelector({selector:?}); if (!e) return null; \
             e.scrollIntoView({{ block: 'nearest' }}); const b = e.getBoundingClientRect(); \
             return [b.x + b.width / 2, b.y + b.height / 2]; }})()"
        );
        let at = self.evaluate(&script);
        let part = |index: usize| at[index].as_f64().unwrap_or_else(|| panic!("there is no {selector}"));
        (part(0), part(1))
    }

    /// Writes what is seen into the directory for the tests' files, and says where.
    pub(crate) fn screenshot(&mut self, name: &str) -> PathBuf {
        use base64::Engine;
        self.settle();
        let answer = self.wire.call("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = base64::engine::general_purpose::STANDARD
            .decode(answer["data"].as_str().expect("a picture"))
            .expect("base64");
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}.png"));
        std::fs::write(&path, bytes).expect("the picture is written");
        path
    }

    /// Nothing was written to the console as an error, and nothing but the page itself was asked for.
    pub(crate) fn assert_quiet(&mut self) {
        self.settle();
        let none: [String; 0] = [];
        assert_eq!(self.wire.complaints, none, "the page complains");
        assert_eq!(self.wire.requests.len(), 1, "more than the page is fetched: {:?}", self.wire.requests);
        let resources = self.evaluate("performance.getEntriesByType('resource').map((each) => each.name)");
        assert_eq!(resources, json!([]), "the page fetches something");
    }

    /// No text lies over other text, none is cut off without an ellipsis and a title, and the page is not wider than
    /// its window.
    pub(crate) fn assert_no_text_overlap(&mut self) {
        self.assert_none("textFaults");
    }

    /// Every text has a contrast to its ground of at least 4.5 to 1 (3 to 1 where it is large).
    pub(crate) fn assert_contrast(&mut self) {
        self.assert_none("contrastFaults");
    }

    /// What can be operated has a name, and no id is given twice.
    pub(crate) fn assert_named(&mut self) {
        self.assert_none("nameFaults");
    }

    fn assert_none(&mut self, check: &str) {
        let faults = self.faults(check);
        assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
    }

    /// What a check of `page_checks.js` finds.
    pub(crate) fn faults(&mut self, check: &str) -> Vec<String> {
        self.settle();
        let script = include_str!("browser/page_checks.js");
        let found = self.evaluate(&format!("(() => {{ {script}\nreturn {check}(); }})()"));
        found.as_array().expect("a list").iter().map(|each| each.as_str().expect("text").to_owned()).collect()
    }
}

/// One end of the protocol.
struct Wire {
    socket: WebSocket<TcpStream>,
    sent: u64,
    complaints: Vec<String>,
    requests: Vec<String>,
    loaded: bool,
}

impl Wire {
    fn open(endpoint: &str, address: &str) -> Self {
        let stream = TcpStream::connect(address).expect("the browser listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a limit");
        stream.set_nodelay(true).expect("an option");
        let (socket, _) = tungstenite::client(endpoint, stream).expect("the browser speaks WebSocket");
        Self { socket, sent: 0, complaints: Vec::new(), requests: Vec::new(), loaded: false }
    }

    fn send(&mut self, method: &str, params: &Value) -> tungstenite::Result<u64> {
        self.sent += 1;
        let message = json!({ "id": self.sent, "method": method, "params": params });
        self.socket.send(Message::text(message.to_string()))?;
        Ok(self.sent)
    }

    fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.send(method, &params).unwrap_or_else(|error| panic!("{method}: {error}"));
        loop {
            let mut message = self.next(method);
            if message["id"] == id {
                assert!(message.get("error").is_none(), "{method} {params}: {}", message["error"]);
                return message["result"].take();
            }
        }
    }

    fn wait(&mut self, event: &str) {
        while !self.loaded {
            self.next(event);
        }
    }

    /// The next message, with what it says of errors and requests noted.
    fn next(&mut self, waiting_for: &str) -> Value {
        let message = loop {
            match self.socket.read().unwrap_or_else(|error| panic!("waiting for {waiting_for}: {error}")) {
                Message::Text(text) => break serde_json::from_str::<Value>(&text).expect("JSON"),
                _ => continue,
            }
        };
        let params = &message["params"];
        match message["method"].as_str().unwrap_or_default() {
            "Page.loadEventFired" => self.loaded = true,
            "Runtime.exceptionThrown" => self.complaints.push(params["exceptionDetails"].to_string()),
            "Runtime.consoleAPICalled" if params["type"] != "log" => self.complaints.push(params.to_string()),
            "Log.entryAdded" => self.complaints.push(params["entry"].to_string()),
            "Network.requestWillBeSent" => self.requests.push(params["request"]["url"].to_string()),
            _ => {}
        }
        message
    }
}

fn program() -> Option<PathBuf> {
    if let Some(named) = variable("CHROME") {
        return Some(named.into());
    }
    let path = variable("PATH")?;
    std::env::split_paths(&path).flat_map(|dir| NAMES.map(|name| dir.join(name))).find(|file| file.is_file())
}

#[expect(clippy::disallowed_methods, reason = "the entry of a test may read the environment")]
fn variable(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// Reads where it listens, and goes on reading what it prints, so that it is never held up.
fn endpoint(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
    let mut said = Vec::new();
    let endpoint = loop {
        let Some(Ok(line)) = lines.next() else { panic!("the browser does not start: {}", said.join("\n")) };
        if let Some(endpoint) = line.strip_prefix("DevTools listening on ") {
            break endpoint.trim().to_owned();
        }
        said.push(line);
    };
    #[expect(
        clippy::disallowed_methods,
        reason = "nothing is simulated here, and nothing depends on the order"
    )]
    std::thread::spawn(move || lines.for_each(drop));
    endpoint
}

/// Windows' number of a key, which the browser itself acts upon.
fn virtual_key(key: &str) -> u32 {
    match key {
        "Tab" => 9,
        "Enter" => 13,
        "Escape" => 27,
        " " => 32,
        "PageUp" => 33,
        "PageDown" => 34,
        "End" => 35,
        "Home" => 36,
        "ArrowLeft" => 37,
        "ArrowUp" => 38,
        "ArrowRight" => 39,
        "ArrowDown" => 40,
        _ => 0,
    }
}
