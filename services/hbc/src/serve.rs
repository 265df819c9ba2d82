//! `hbc serve` and `hbc migrate`: one service of the one binary, from its configuration file.

use std::path::Path;

use anyhow::Result;
use hbc_service::telemetry;

use crate::cli::Serve;
use crate::services::Service;
use crate::stop;

/// Serves until a signal (or the end of input, where asked) stops it.
pub async fn serve(args: &Serve) -> Result<()> {
    // A panic's message may quote what it choked on; where it happened is enough for the log.
    telemetry::hide_panic_messages();
    let stop = stop::requested(args.until_input_closes)?;
    (args.service.library.serve)(args.config.clone(), Box::pin(stop)).await
}

/// Brings the service's database to the present schema.
pub async fn migrate(service: &Service, path: &Path) -> Result<()> {
    (service.library.migrate)(path.to_owned()).await
}
