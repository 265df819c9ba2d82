//! Why a call would be allowed or denied.

use actix_web::http::StatusCode;
use actix_web::{HttpResponse, post, web};
use hbc_service::{Caller, Problem, StrictJson};
use hbc_types::wire::access::{ExplainRequest, Explanation};

use crate::app::{App, Who};
use crate::flows::explain as flow;
use crate::routes::answer;

/// The verdict a call would get, by the rule that decides. It changes nothing and leaves no receipt.
#[utoipa::path(
    tag = "decisions", operation_id = "explain", request_body = ExplainRequest, security(("user" = [])),
    responses(
        (status = 200, description = "What would be decided, and why", body = Explanation),
        (status = 404),
    ),
)]
#[post("/v1/explain")]
pub async fn explain(
    caller: Caller,
    body: StrictJson<ExplainRequest>,
    app: web::Data<App>,
) -> Result<HttpResponse, Problem> {
    let explanation = flow::explain(&app, &Who::from(&caller), &body.value).await?;
    Ok(answer(StatusCode::OK, &explanation))
}
