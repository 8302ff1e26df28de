//! The page of a timeline in a real browser: what it shows, how it answers to keys and filters, and how it looks.

mod browser;
#[path = "../cli/command.rs"]
mod command;
mod pictures;
mod report;
#[path = "../common/root.rs"]
mod root;

use browser::{Browser, Page, VIEWS, View};
use root::root;
use scenarios::page::timeline;
use scenarios::run::Keep;
use scenarios::seeds::Case;
use scenarios::timeline::{Kind, Timeline};
use serde_json::{Value, json};

const WIDE: View = View::light(1920, 1080);

fn open(browser: &mut Browser, picture: &Value, view: View) -> Page {
    browser.open(&timeline(picture["title"].as_str().expect("a title"), picture), view)
}

/// Which event the cursor is at, as a screen reader is told.
fn cursor(page: &mut Page) -> String {
    let name = page.evaluate("document.getElementById('events').getAttribute('aria-activedescendant')");
    let name = name.as_str().expect("a cursor").to_owned();
    let marked =
        page.evaluate("[...document.querySelectorAll('[aria-selected=true]')].map((each) => each.id)");
    assert_eq!(marked, json!([name]), "exactly the cursor's row is marked");
    name.strip_prefix("event-").expect("an event").to_owned()
}

fn count(page: &mut Page) -> String {
    page.text("#count")
}

fn press_all(page: &mut Page, keys: &[&str]) {
    for key in keys {
        page.press(key);
    }
}

#[test]
fn the_page_says_what_was_run_what_is_wrong_and_how_to_do_it_again() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::single(), WIDE);
    assert_eq!(page.text("h1"), "single, seed 17, as-merged");
    assert_eq!(page.text("#result"), "1 violation");
    assert_eq!(
        page.text("#reproduce"),
        "cargo sim replay 17 --scenario single --subject as-merged --profile posix"
    );
    assert_eq!(page.evaluate("document.querySelectorAll('#story li').length"), 4);
    assert!(page.text("#violations").contains("replay-converges/rotate/registry-ahead"));
    // Expected and found side by side: three lines differ, each with its sign.
    let signs = "[...document.querySelectorAll('#violations .diff td[data-sign]')].map((each) => each.dataset.sign).join('')";
    assert_eq!(page.evaluate(signs), "−+−+−+");
    assert_eq!(page.text("#violations .diff td.come"), "entry 2: rejected, the epoch is taken");
    page.click("#copy");
    assert_eq!(page.clipboard(), page.text("#reproduce"));
    assert_eq!(page.text("#copy"), "Copied");
    page.assert_quiet();
}

#[test]
fn a_run_without_a_finding_says_so() {
    let Some(mut browser) = Browser::launch() else { return };
    let mut picture = pictures::single();
    picture["violations"] = json!([]);
    picture["story"] = json!([]);
    let page = &mut open(&mut browser, &picture, WIDE);
    assert_eq!(page.text("#result"), "nothing violated");
    assert_eq!(page.evaluate("document.getElementById('violations').checkVisibility()"), false);
    assert_eq!(cursor(page), "0");
    page.assert_no_text_overlap();
    page.assert_quiet();
}

#[test]
fn a_run_without_an_event_is_a_page_all_the_same() {
    let Some(mut browser) = Browser::launch() else { return };
    let mut picture = pictures::single();
    for list in ["violations", "events", "stores"] {
        picture[list] = json!([]);
    }
    let page = &mut open(&mut browser, &picture, WIDE);
    press_all(page, &["j", "k", "n", "p", "Home", "End", "ArrowLeft", "PageDown", "+", "-"]);
    assert!(page.text("#empty").contains("No event"));
    page.assert_quiet();
}

#[test]
fn keys_alone_move_the_cursor() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::single(), WIDE);
    assert_eq!(cursor(page), "16", "it starts where something is violated");
    for (key, event) in [
        ("Home", "0"),
        ("j", "1"),
        ("ArrowDown", "2"),
        ("k", "1"),
        ("ArrowUp", "0"),
        ("End", "16"),
        ("j", "16"),
        ("p", "11"),
        ("p", "11"),
        ("n", "16"),
        ("p", "11"),
        ("ArrowLeft", "0"),
        ("ArrowRight", "1"),
        ("PageDown", "16"),
        ("PageUp", "0"),
        ("j", "1"),
    ] {
        page.press(key);
        assert_eq!(cursor(page), event, "after {key}");
    }
    page.press("?");
    assert_eq!(page.evaluate("document.getElementById('help').open"), true);
    page.press("j");
    page.press("Escape");
    assert_eq!(page.evaluate("document.getElementById('help').open"), false);
    assert_eq!(cursor(page), "1", "the keys of the help are not the timeline's");
    page.press("/");
    page.type_text("njp");
    assert_eq!(page.evaluate("document.activeElement.id"), "text");
    page.press("Escape");
    assert_eq!(page.evaluate("document.activeElement.id"), "events");
    page.assert_quiet();
}

#[test]
fn the_focus_is_seen_and_every_control_is_reached() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::single(), WIDE);
    let mut reached = Vec::new();
    for _ in 0..60 {
        page.press("Tab");
        let at = page.evaluate(
            "(() => { const e = document.activeElement; if (e === document.body) return null; \
             const seen = [e, e.parentElement].some((each) => getComputedStyle(each).outlineStyle !== 'none'); \
             return [e.id || e.value || e.className || e.tagName, seen]; })()",
        );
        if at.is_null() {
            break;
        }
        assert_eq!(at[1], true, "the focus is not seen at {}", at[0]);
        reached.push(at[0].as_str().expect("a name").to_owned());
    }
    for control in
        ["copy", "entry", "text", "crash", "back", "forth", "out", "in", "ask", "events", "panel", "whose"]
    {
        assert!(reached.iter().any(|each| each == control), "{control} is not reached: {reached:?}");
    }
    page.assert_named();
}

#[test]
fn the_stores_follow_the_cursor() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::single(), WIDE);
    let differ = "document.querySelectorAll('[data-store=sidecar] td[data-sign]').length";
    press_all(page, &["Home", "j"]);
    assert!(page.text("[data-store=sidecar]").contains("no file"));
    assert!(page.text("[data-store=memory]").contains("No key"));
    press_all(page, &["j", "j", "j", "j"]);
    assert!(page.text("#since").contains("as event 5 leaves them"), "{}", page.text("#since"));
    assert!(page.text("[data-store=memory]").contains("key 1"));
    assert_eq!(page.evaluate(differ), 0);
    press_all(page, &["j", "j", "j"]);
    assert!(page.text("#since").contains("unchanged since event 5"));
    page.press("j");
    assert!(page.evaluate(differ).as_u64().expect("a number") > 2, "durable and seen differ");
    assert_eq!(page.evaluate("document.querySelectorAll('[data-store=pending] li').length"), 4);
    assert!(page.text("[data-store=registry]").contains("epoch 2"));
    page.press("n");
    assert!(page.text("[data-store=memory]").contains("No process runs"));
    assert!(page.text("[data-store=registry]").contains("cannot be read"));
    assert!(
        !page.text("[data-store=registry]").contains("all durable"),
        "nothing is claimed of what cannot be read"
    );
    let fates = page
        .evaluate("[...document.querySelectorAll('#fates tbody tr')].map((row) => row.cells[1].innerText)");
    assert_eq!(fates, json!(["dropped", "torn", "unreachable", "kept"]));
}

#[test]
fn stores_of_another_lane_can_be_held_in_sight() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::cluster(), WIDE);
    assert!(page.text("#since").starts_with("node"));
    page.evaluate("(() => { const s = document.getElementById('whose'); s.value = '4'; s.dispatchEvent(new Event('change')); })()");
    for key in ["j", "j", "j", "n"] {
        page.press(key);
        assert!(page.text("#since").starts_with("node 4"), "{}", page.text("#since"));
    }
}

#[test]
fn filters_leave_what_was_asked_for() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::single(), WIDE);
    let names = "[...document.querySelectorAll('.row')].map((row) => row.id.slice(6)).sort((a, b) => a - b).join(' ')";
    assert_eq!(count(page), "17 events");
    page.click(".chip:has([value=disk])");
    assert_eq!(count(page), "13 of 17 events");
    assert_eq!(page.evaluate(names), "0 1 2 5 6 7 10 11 12 13 14 15 16");
    page.evaluate("(() => { const s = document.getElementById('entry'); s.value = '1'; s.dispatchEvent(new Event('change')); })()");
    assert_eq!(page.evaluate(names), "2 5", "kind and entry");
    assert_eq!(cursor(page), "5", "the cursor goes to the nearest that is left");
    page.click("#clear");
    assert_eq!(count(page), "17 events");
    page.press("/");
    page.type_text("RENAME sidecar");
    assert_eq!(page.evaluate(names), "9 11", "also in the fate of an operation");
    page.press("Enter");
    page.press("End");
    assert_eq!(cursor(page), "11");
    page.press("/");
    page.type_text("no such word");
    assert_eq!(count(page), "0 of 17 events");
    assert!(page.text("#empty").contains("No event"));
    page.press("Escape");
    press_all(page, &["j", "n", "ArrowLeft", "+"]);
    page.click("#clear");
    page.click("#none");
    page.click(".chip:has([value=crash])");
    assert_eq!(page.evaluate(names), "11");
    page.click("#violations .link");
    assert_eq!(cursor(page), "16", "what is asked for by name is shown, filtered out or not");
    assert_eq!(count(page), "17 events");
    page.assert_quiet();
}

#[test]
fn zoom_keeps_the_cursor_in_sight_down_to_the_whole_run() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::cluster(), View::light(1280, 800));
    press_all(page, &["Home", "n", "n"]);
    let at = cursor(page);
    let rows = "document.querySelectorAll('.row').length";
    let inside = "(() => { const a = document.querySelector('[aria-selected=true]').getBoundingClientRect(), \
                  b = document.getElementById('events').getBoundingClientRect(); return a.top >= b.top && a.bottom <= b.bottom; })()";
    let all = page.evaluate(rows).as_u64().expect("a number");
    assert!((10..80).contains(&all), "only what is in sight is in the document: {all}");
    for key in ["-", "-", "-", "-", "-", "-", "-", "-", "+", "+", "+", "+", "+", "+", "+", "+", "+", "+"] {
        page.press(key);
        assert_eq!(cursor(page), at);
        assert_eq!(page.evaluate(inside), true, "after {key} at {}", page.text("#zoom"));
        assert!(page.evaluate(rows).as_u64().expect("a number") < 80);
        page.assert_no_text_overlap();
    }
    assert_eq!(page.text("#zoom"), "36 px");
    page.wheel("#events", 100, true);
    assert_eq!(page.text("#zoom"), "28 px");
    page.click("#in");
    assert_eq!(page.text("#zoom"), "36 px");
    page.assert_quiet();
}

/// How many pixels of the lanes have this colour of the page's.
fn painted(page: &mut Page, colour: &str) -> u64 {
    let script = format!(
        "(() => {{ const c = document.getElementById('graph'), d = c.getContext('2d').getImageData(0, 0, c.width, c.height).data; \
         const [r, g, b] = getComputedStyle(document.documentElement).getPropertyValue('--{colour}').trim().match(/\\w\\w/g)\
         .map((each) => parseInt(each, 16)); let count = 0; for (let i = 0; i < d.length; i += 4) \
         if (d[i] === r && d[i + 1] === g && d[i + 2] === b && d[i + 3] === 255) count += 1; return count; }})()"
    );
    page.evaluate(&script).as_u64().expect("a number")
}

#[test]
fn lives_marks_and_messages_are_drawn_in_the_colours_of_the_scheme() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::cluster(), WIDE);
    press_all(page, &["Home", "n"]);
    for view in [WIDE, View::dark(1920, 1080)] {
        page.view(view);
        for colour in ["edge", "accent", "bad", "note"] {
            assert!(painted(page, colour) > 20, "{colour} is drawn");
        }
    }
    page.click(".chip:has([value=crash])");
    press_all(page, &["Home"]);
    assert_eq!(painted(page, "bad"), 0, "what is filtered out is not drawn");
}

#[test]
fn a_message_is_an_arrow_and_a_lost_one_is_not() {
    let Some(mut browser) = Browser::launch() else { return };
    let mut picture = pictures::single();
    let lost = |arrives: Value| json!({ "kind": "message", "lane": 0, "to": 1, "arrives": arrives, "tone": "plain" });
    for (at, arrives) in [(3, json!(9)), (13, Value::Null)] {
        for (key, value) in lost(arrives).as_object().expect("an object") {
            picture["events"][at][key] = value.clone();
        }
    }
    let page = &mut open(&mut browser, &picture, WIDE);
    press_all(page, &["Home", "j", "j"]);
    let marks = painted(page, "accent");
    page.press("j");
    let arrow = painted(page, "accent");
    assert!(arrow > marks + 60, "the arrow of the message at the cursor stands out: {arrow} after {marks}");
    page.evaluate("location.hash = '#event-13'");
    page.settle();
    assert_eq!(cursor(page), "13", "an address may name an event");
    assert!((marks + 10..arrow - 20).contains(&painted(page, "accent")), "half of the way, dashed");
    assert!(page.text("#event").contains("never arrives"));
}

#[test]
fn a_click_a_drag_and_the_strip_lead_through_the_run() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::cluster(), WIDE);
    page.press("Home");
    page.click("#event-7 .what");
    assert_eq!(cursor(page), "7");
    page.click("#strip");
    let top = page.evaluate("document.getElementById('events').scrollTop").as_f64().expect("a number");
    assert!((190_000.0..250_000.0).contains(&top), "the middle of the strip is the middle of the run: {top}");
    page.wheel("#events", 300, false);
    assert!(page.evaluate("document.getElementById('events').scrollTop").as_f64().expect("a number") > top);
    assert_eq!(cursor(page), "7", "to look elsewhere does not move the cursor");
}

#[test]
fn twenty_thousand_events_stay_fluid() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::cluster(), WIDE);
    assert_eq!(count(page), "20,000 events");
    // The limits are some ten times what it takes: they see a page that draws all events, not a slow machine.
    let opened = page.evaluate("performance.timing.loadEventEnd - performance.timing.navigationStart");
    assert!(opened.as_f64().expect("a number") < 10_000.0, "it opens in {opened} ms");
    let key = "(() => { const from = performance.now(); for (let i = 0; i < 50; i += 1) document.body.dispatchEvent(\
               new KeyboardEvent('keydown', { key: 'j', bubbles: true })); return (performance.now() - from) / 50; })()";
    let moved = page.evaluate(key).as_f64().expect("a number");
    assert!(moved < 200.0, "one step takes {moved} ms");
    let sifted = page.evaluate("(() => { const from = performance.now(); document.getElementById('none').click(); \
                                document.getElementById('all').click(); return performance.now() - from; })()");
    assert!(sifted.as_f64().expect("a number") < 2_000.0, "two filters take {sifted} ms");
    eprintln!("opened in {opened} ms, one step {moved:.1} ms, two filters {sifted} ms");
}

#[test]
fn hostile_text_is_text_and_stays_in_its_place() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::hostile(), View::light(1280, 800));
    for key in ["Home", "j", "j", "n", "n", "-", "-", "-", "-", "+", "+", "+", "+"] {
        page.press(key);
        assert_eq!(page.evaluate("window.broken ?? null"), Value::Null);
        page.assert_no_text_overlap();
    }
    assert_eq!(page.evaluate("document.querySelectorAll('img, b').length"), 0);
    assert!(page.text("h1").starts_with(pictures::HOSTILE), "not a character is lost");
    page.screenshot("timeline-hostile");
    page.assert_quiet();
}

#[test]
fn an_element_that_comes_in_by_force_runs_no_script() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::single(), WIDE);
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=\"x:\" onerror=\"window.broken = 1\">')",
    );
    page.evaluate("new Promise((done) => setTimeout(done, 100))");
    assert_eq!(
        page.evaluate("window.broken ?? null"),
        Value::Null,
        "the policy lets only the page's own script run"
    );
}

#[test]
fn a_narrow_window_stacks_what_stands_side_by_side() {
    let Some(mut browser) = Browser::launch() else { return };
    let page = &mut open(&mut browser, &pictures::cluster(), View::light(700, 900));
    page.assert_no_text_overlap();
    press_all(page, &["Home", "n"]);
    page.assert_no_text_overlap();
    page.screenshot("timeline-narrow");
    let below = "document.getElementById('panel').getBoundingClientRect().top >= \
                 document.getElementById('events').getBoundingClientRect().bottom";
    assert_eq!(page.evaluate(below), true);
}

#[test]
fn kept_runs_of_a_node_and_of_a_cluster_fill_the_page() {
    let Some(mut browser) = Browser::launch() else { return };
    for name in ["bootstrap-redelivered-after-rotation", "follower-restored-from-a-snapshot-has-no-keys"] {
        let seeds = root().join("seeds");
        let case = Case::read(&seeds.join(format!("{name}.toml"))).expect("it is in the corpus");
        let replayed = case.replay(true, Keep::Disks).expect("its tape fits");
        let run = Timeline::new(
            &case.setup,
            &replayed.checked,
            name,
            &format!("cargo sim replay seeds/{name}.toml"),
        );
        let picture = serde_json::to_value(&run).expect("strings and numbers");
        // Each width in one scheme; `text_is_readable_...` goes through all of them.
        for (look, view) in [VIEWS[0], VIEWS[3]] {
            let page = &mut open(&mut browser, &picture, view);
            assert_eq!(
                page.evaluate("JSON.parse(document.getElementById('data').textContent).events.length"),
                run.events.len()
            );
            assert_eq!(page.evaluate("document.querySelectorAll('#story li').length"), run.story.len());
            assert!(page.text("#violations").contains(&run.violations[0].fingerprint));
            page.press("n");
            let at = cursor(page).parse::<usize>().expect("a number");
            assert!(matches!(run.events[at].kind, Kind::Crash | Kind::Violation), "{:?}", run.events[at]);
            assert!(page.text("#stores").contains("durable"), "{}", page.text("#stores"));
            page.assert_no_text_overlap();
            page.assert_quiet();
            page.screenshot(&format!("{name}-{look}"));
        }
    }
}

#[test]
fn text_is_readable_at_both_widths_in_light_and_dark() {
    let Some(mut browser) = Browser::launch() else { return };
    for (name, picture) in [("single", pictures::single()), ("cluster", pictures::cluster())] {
        for (look, view) in VIEWS {
            let page = &mut open(&mut browser, &picture, view);
            let check = |page: &mut Page, part: &str| {
                page.assert_no_text_overlap();
                page.assert_contrast();
                page.screenshot(&format!("timeline-{name}-{look}-{part}"));
            };
            check(page, "top");
            press_all(page, &["Home", "n"]);
            check(page, "crash");
            press_all(page, &["-", "-", "-", "-", "-"]);
            check(page, "far");
            page.press("?");
            check(page, "help");
            page.assert_quiet();
        }
    }
}
