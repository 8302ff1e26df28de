//! What the code under test logs, as part of its timeline.

use std::cell::RefCell;
use std::fmt::{self, Write};
use std::sync::{Arc, Once, OnceLock};

use sim::Trace;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id};
use tracing::{Event, Level, Span, Subscriber};
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

/// What was logged, as it is kept beside a remark.
#[derive(Clone, Debug)]
pub struct Logged {
    /// How important it is.
    pub level: Level,
    /// Where it comes from.
    pub target: &'static str,
    /// What it says.
    pub message: String,
    /// Its fields: name and value.
    pub fields: Vec<(&'static str, String)>,
}

impl fmt::Display for Logged {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.fields.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
    }
}

static FILTER: OnceLock<Targets> = OnceLock::new();

/// Also keeps what this filter lets through. Without it a timeline has what the applier says of its steps.
pub fn listen_to(filter: Targets) {
    // A second filter has nobody to be of use to: a command sets it once, before it runs anything.
    let _ = FILTER.set(filter);
}

/// The span in which a member works.
pub(crate) fn member(id: u64) -> Span {
    tracing::info_span!("member", id)
}

thread_local! {
    /// The trace of the run that this thread is in.
    static TRACE: RefCell<Option<Trace>> = const { RefCell::new(None) };
}

/// Works, and keeps what is logged meanwhile as remarks.
pub(crate) fn during<T>(trace: &Trace, work: impl FnOnce() -> T) -> T {
    install();
    let _listening = Listening::to(trace);
    work()
}

/// One subscriber for the whole process and not one a run: `tracing` remembers for all threads at once who is interested
/// in which line, and what a run gets to hear would depend on what other threads do.
fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let steps = Targets::new()
            .with_target("applier", LevelFilter::DEBUG)
            .with_target("scenarios", LevelFilter::DEBUG);
        let filter = FILTER.get().cloned().unwrap_or_default();
        let filter = steps.into_iter().chain(filter).collect::<Targets>();
        let subscriber = tracing_subscriber::registry().with(Tap.with_filter(filter));
        // Whoever has installed another one wants to see elsewhere what is logged.
        let _ = tracing::subscriber::set_global_default(subscriber);
    });
}

/// While it lives, this thread's trace is listened for.
struct Listening;

impl Listening {
    fn to(trace: &Trace) -> Listening {
        TRACE.set(Some(trace.clone()));
        Listening
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        TRACE.set(None);
    }
}

struct Tap;

/// Whose span it is.
struct Who(u64);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Tap {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut words = Words::default();
        attributes.record(&mut words);
        if let (Some(who), Some(span)) = (words.id, context.span(id)) {
            span.extensions_mut().insert(Who(who));
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let Some(trace) = TRACE.with_borrow(Clone::clone) else { return };
        let mut words = Words::default();
        event.record(&mut words);
        let who = context
            .event_scope(event)
            .into_iter()
            .flatten()
            .find_map(|span| span.extensions().get::<Who>().map(|who| who.0))
            .unwrap_or(0);
        let metadata = event.metadata();
        let (level, target) = (*metadata.level(), metadata.target());
        let logged = Logged { level, target, message: words.message, fields: words.fields };
        trace.of(who).remark("log", [0; 3], || (logged.to_string(), Some(Arc::new(logged))));
    }
}

#[derive(Default)]
struct Words {
    id: Option<u64>,
    message: String,
    fields: Vec<(&'static str, String)>,
}

impl Visit for Words {
    fn record_u64(&mut self, field: &Field, value: u64) {
        if field.name() == "id" {
            self.id = Some(value);
        }
        self.record_debug(field, &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        match field.name() {
            "message" => write!(self.message, "{value:?}").expect("a string takes everything"),
            name => self.fields.push((name, format!("{value:?}"))),
        }
    }
}
