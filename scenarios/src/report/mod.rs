//! Results for whoever reads them: a page, Markdown for the summary of a CI job, and XML for CI systems.

pub mod html;
pub mod junit;
pub mod markdown;
