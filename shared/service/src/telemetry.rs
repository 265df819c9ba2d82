//! Logs: a sentence that reads alone plus dotted fields, as JSON lines or text on standard error. Never tokens,
//! bodies, names or addresses: nothing here or in the libraries that are let through logs them.

use std::sync::OnceLock;

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde::{Deserialize, Serialize};
use tracing_subscriber::EnvFilter;

/// How a process logs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TelemetrySettings {
    /// `json` or `text`.
    pub format: LogFormat,
    /// Directives as in `info,hbc_storage=debug`.
    pub filter: String,
}

impl Default for TelemetrySettings {
    fn default() -> Self {
        Self { format: LogFormat::Json, filter: "info".to_owned() }
    }
}

/// The form of log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Libraries whose chatter could carry what must not be logged, or drowns what should be seen.
const QUIET: &str = "arc_malachitebft_core_consensus=warn,arc_malachitebft_core_driver=warn,sqlx=warn,hyper=warn,reqwest=warn,h2=warn,actix_server=warn,actix_http=warn,ipfs_api_prelude=warn,rustls=warn";

/// Starts logging for this process. Calling it again, as tests do, changes nothing.
pub fn init(settings: &TelemetrySettings) -> anyhow::Result<()> {
    let filter = EnvFilter::try_new(format!("{QUIET},{}", settings.filter))?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let _already_started = match settings.format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).try_init()
        }
        LogFormat::Text => builder.with_target(false).try_init(),
    };
    Ok(())
}

/// For the process's `main`: a panic is logged by its place alone, because its message may quote what a log must not
/// hold.
pub fn hide_panic_messages() {
    std::panic::set_hook(Box::new(|panic| {
        let (file, line) = panic.location().map_or(("unknown", 0), |place| (place.file(), place.line()));
        tracing::error!(panic.file = file, panic.line = line, "A thread panicked");
    }));
}

/// The process's metrics; the recorder is installed at the first call.
pub(crate) fn metrics() -> Option<&'static PrometheusHandle> {
    static HANDLE: OnceLock<Option<PrometheusHandle>> = OnceLock::new();
    let install = || {
        let buckets = [0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
        let builder =
            PrometheusBuilder::new().set_buckets_for_metric(Matcher::Suffix("seconds".to_owned()), &buckets);
        let handle = builder.and_then(PrometheusBuilder::install_recorder);
        handle.map_err(|error| tracing::warn!(error = %error, "Metrics are not recorded")).ok()
    };
    HANDLE.get_or_init(install).as_ref()
}
