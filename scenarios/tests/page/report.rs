//! The page of a report in a real browser: what it shows, how it answers to keys and filters, and how it looks.

use std::sync::OnceLock;

use crate::browser::{Browser, Page, VIEWS, View};
use crate::command::{check, json, text};
use serde_json::Value;

const WIDE: View = View::light(1920, 1080);

/// A page with everything on it: findings, crashes that were followed by one, probes at zero, what has changed.
fn html() -> &'static str {
    static HTML: OnceLock<String> = OnceLock::new();
    HTML.get_or_init(|| {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let path = |name: &str| dir.path().join(name).to_str().expect("UTF-8").to_owned();
        let sweep = ["sweep", "--scenario", "single", "--subject", "as-merged"];
        check(&[sweep.as_slice(), &["--count", "60", "--out", &path("now")]].concat(), 1, &[]);
        check(&[sweep.as_slice(), &["--count", "10", "--out", &path("then")]].concat(), 1, &[]);
        let other = ["sweep", "--count", "12", "--out", &path("other")];
        check(&other, 0, &[]);
        let files = [path("now/sweep.json"), path("other/sweep.json")];
        let against = path("then/sweep.json");
        let report = ["report", &files[0], &files[1], "--against", &against, "--format", "html"];
        text(&check(&report, 1, &[]).stdout)
    })
}

/// The label of the cell that has the focus, which stands in the line below the map too.
fn cell(page: &mut Page) -> String {
    let label = page.evaluate("document.activeElement.getAttribute('aria-label')");
    let label = label.as_str().expect("a cell has the focus").to_owned();
    assert_eq!(page.text(".detail"), label);
    label
}

#[test]
fn it_is_readable_at_every_width_in_light_and_in_dark() {
    let Some(mut browser) = Browser::launch() else { return };
    for (name, view) in VIEWS {
        let page = &mut browser.open(html(), view);
        page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })");
        page.settle();
        page.assert_no_text_overlap();
        page.assert_contrast();
        page.assert_named();
        page.assert_quiet();
        page.screenshot(&format!("report-{name}"));
    }
}

#[test]
fn arrow_keys_walk_through_the_crashes_and_say_what_came_of_them() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut browser.open(html(), WIDE);
    page.evaluate("document.querySelector('.points [tabindex=\"0\"]').focus()");
    let first = cell(page);
    assert!(first.contains(", process-crash: "), "{first}");
    page.press("ArrowRight");
    assert!(cell(page).contains(", nothing-pending: "));
    page.press("End");
    assert!(cell(page).contains(", torn: "));
    page.press("Home");
    page.press("ArrowDown");
    let below = cell(page);
    assert!(below.contains(", process-crash: ") && below != first, "{below}");
    page.press("ArrowUp");
    assert_eq!(cell(page), first);
    page.press("ArrowUp");
    assert_eq!(cell(page), first, "there is nothing above");
    let entries =
        page.evaluate("document.querySelector('.points').querySelectorAll('[tabindex=\"0\"]').length");
    assert_eq!(entries, 1, "Tab leads into the map once");
    page.assert_quiet();
}

#[test]
fn probes_are_filtered_and_sorted() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut browser.open(html(), WIDE);
    let rows = "[...document.querySelectorAll('.probes')[0].querySelectorAll('tbody tr:not([hidden])')]";
    let shown =
        |page: &mut Page, what: &str| page.evaluate(&format!("{rows}.map((row) => row.dataset.{what})"));
    let all = shown(page, "name").as_array().expect("a list").len();
    page.click(".probes [data-filter]");
    page.type_text("crash power");
    let names = shown(page, "name");
    let names = names.as_array().expect("a list");
    let fits =
        |name: &Value| name.as_str().is_some_and(|name| name.contains("crash") && name.contains("power"));
    assert!(names.len() < all && names.iter().all(fits), "{names:?}");
    assert_eq!(page.text(".probes [data-shown]"), format!("{} of {all} shown", names.len()));
    page.click(".probes [data-never]");
    let hits = shown(page, "hits");
    assert!(hits.as_array().expect("a list").iter().all(|hits| hits == "0"), "{hits}");
    page.click(".probes [data-never]");
    page.click(".probes [data-sort=hits]");
    page.click(".probes [data-sort=hits]");
    let hits = shown(page, "hits");
    let hits: Vec<u64> = hits
        .as_array()
        .expect("a list")
        .iter()
        .map(|hits| hits.as_str().and_then(|hits| hits.parse().ok()).expect("a count"))
        .collect();
    assert!(hits.is_sorted_by(|one, other| one >= other) && hits[0] > 0, "{hits:?}");
}

#[test]
fn a_reproduce_line_is_copied() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut browser.open(html(), WIDE);
    page.click(".finding button");
    let copied = page.clipboard();
    assert!(copied.starts_with("cargo sim replay "), "{copied}");
    assert_eq!(copied, page.text(".finding .command code"));
    let line: Vec<&str> = copied.strip_prefix("cargo sim ").expect("a command").split(' ').collect();
    let again = json(&[line.as_slice(), &["--format", "json"]].concat(), 1);
    assert!(again["findings"].as_array().is_some_and(|found| !found.is_empty()));
}
