//! Pages that a browser opens: one file each, with everything in it, and nothing fetched.
//!
//! The look that they share is `page/base.css`. A page's content security policy lets exactly its own style and script
//! run, by their hashes; whatever a run wrote into its data is text to it.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};

/// What a page is made of.
pub struct Parts<'a> {
    /// The name in the browser's tab, as plain text.
    pub title: &'a str,
    /// What stands in the body, as HTML of ours.
    pub body: &'a str,
    /// Style sheets that follow the shared one.
    pub styles: &'a [&'a str],
    /// Scripts, run in this order as one. They find the data as JSON in the element with the id `data`.
    pub scripts: &'a [&'a str],
    /// The data.
    pub data: &'a Value,
}

impl Parts<'_> {
    /// The whole file.
    #[must_use]
    pub fn render(&self) -> String {
        let style = joined(&[&[include_str!("page/base.css")], self.styles].concat());
        // In a function, names of one page's script are not in reach of another's, nor of what an extension adds.
        let script = format!("(() => {{\n\"use strict\";\n{}}})();\n", joined(self.scripts));
        let mut page =
            String::from("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n");
        let policy = format!(
            "default-src 'none'; style-src '{}'; script-src '{}'; base-uri 'none'; form-action 'none'",
            hash(&style),
            hash(&script)
        );
        let _ = writeln!(page, "<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}\">");
        page.push_str("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n");
        let _ = writeln!(page, "<title>{}</title>\n<style>{style}</style>\n</head>", text(self.title));
        let _ = writeln!(page, "<body>\n{}", self.body);
        let _ = writeln!(page, "<script type=\"application/json\" id=\"data\">{}</script>", data(self.data));
        let _ = writeln!(page, "<script>{script}</script>\n</body>\n</html>");
        page
    }
}

/// The page of one run: its result, its story, and its timeline with a lane per node.
#[must_use]
pub fn timeline(title: &str, json: &Value) -> String {
    Parts {
        title,
        body: include_str!("page/timeline.html"),
        styles: &[include_str!("page/timeline.css")],
        scripts: &[
            include_str!("page/model.js"),
            include_str!("page/diff.js"),
            include_str!("page/overview.js"),
            include_str!("page/panel.js"),
            include_str!("page/drawing.js"),
            include_str!("page/timeline.js"),
        ],
        data: json,
    }
    .render()
}

fn joined(parts: &[&str]) -> String {
    parts.join("\n")
}

/// How a policy names a style or script that stands in the page itself.
fn hash(source: &str) -> String {
    format!("sha256-{}", STANDARD.encode(Sha256::digest(source)))
}

/// Plain text as HTML.
fn text(plain: &str) -> String {
    plain.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// JSON that no HTML parser sees an end in: `<` stands in JSON only inside of strings, where it may be escaped.
fn data(json: &Value) -> String {
    json.to_string().replace('<', "\\u003c")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn data_cannot_end_its_element_and_stays_what_it_was() {
        let hostile = json!({ "text": "</script><!--<script>", "<": 1 });
        let escaped = data(&hostile);
        assert!(!escaped.contains('<'));
        assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), hostile);
    }

    #[test]
    fn a_title_is_text() {
        let page = timeline("</title><script>\"&", &Value::Null);
        assert!(page.contains("<title>&lt;/title&gt;&lt;script&gt;&quot;&amp;</title>"));
    }

    #[test]
    fn no_script_or_style_ends_its_own_element() {
        let page = timeline("", &Value::Null);
        assert_eq!(page.matches("</script").count(), 2);
        assert_eq!(page.matches("</style").count(), 1);
    }

    #[test]
    fn a_page_names_no_other_place() {
        // The name of SVG looks like an address, and is none.
        let page = timeline("", &Value::Null).replace("http://www.w3.org/2000/svg", "");
        assert!(!page.contains("://"));
    }
}
