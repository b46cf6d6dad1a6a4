//! The routes of held users. They need the database of the read model, and the event store to replay a user.

use super::{ADMIN, Operators};
use crate::domain::UserId;
use crate::operations::OperationError;
use crate::projection::current_repair::CurrentRepair;
use crate::projection::holds;
use crate::projection::view::HeldUser;
use actix_web::web::{Data, ServiceConfig, get, post, resource};
use actix_web::{HttpRequest, HttpResponse};
use serde_json::{Value, json};
use web::{Json, PathId, Problem, secured};

/// The held users of all read models.
#[derive(Debug, Clone)]
pub struct HeldUsers {
    repairs: Vec<CurrentRepair>,
    operators: Operators,
}

impl HeldUsers {
    /// The held users of these read models, for these operators.
    #[must_use]
    pub fn new(repairs: Vec<CurrentRepair>, operators: Operators) -> Self {
        Self { repairs, operators }
    }

    /// The read model that the path names.
    fn repair(&self, request: &HttpRequest) -> Result<&CurrentRepair, Problem> {
        let named = request.match_info().get("read_model");
        let mut repairs = self.repairs.iter();
        let repair = repairs.find(|repair| Some(repair.read_model()) == named);
        repair.ok_or_else(|| {
            let detail = "there is no such read model";
            Problem::new(web::problem_types::NOT_FOUND, detail)
        })
    }

    /// Adds `GET /operations/{read_model}/held`, `POST …/held/{id}/replay` and `POST …/held/{id}/drop`.
    pub fn add_to(&self, config: &mut ServiceConfig) {
        let list = secured(get().to(list), ADMIN);
        let replay = secured(post().to(replay), ADMIN);
        let drop = secured(post().to(drop_event), ADMIN);
        config
            .app_data(Data::new(self.clone()))
            .service(resource("/operations/{read_model}/held").route(list))
            .service(resource("/operations/{read_model}/held/{id}/replay").route(replay))
            .service(resource("/operations/{read_model}/held/{id}/drop").route(drop));
    }
}

async fn list(held: Data<HeldUsers>, request: HttpRequest) -> Result<HttpResponse, Problem> {
    let repair = held.repair(&request)?;
    let listed = async {
        let listed = holds::list(&repair.generation()?).await;
        Ok::<_, OperationError>(listed.map_err(anyhow::Error::from)?)
    };
    let listed = held.operators.run(Box::pin(listed)).await?;
    let data: Vec<_> = listed.users.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({"data": data, "total": listed.total})))
}

async fn replay(
    held: Data<HeldUsers>,
    PathId(id): PathId,
    request: HttpRequest,
) -> Result<HttpResponse, Problem> {
    let repair = held.repair(&request)?;
    let user = UserId::new(id);
    let replayed = async { holds::replay(&repair.repair()?, user).await };
    let still_held = held.operators.run(Box::pin(replayed)).await?;
    Ok(HttpResponse::Ok().json(json!({"held": still_held.as_ref().map(shown)})))
}

async fn drop_event(
    held: Data<HeldUsers>,
    PathId(id): PathId,
    request: HttpRequest,
    Json(body): Json,
) -> Result<HttpResponse, Problem> {
    let repair = held.repair(&request)?;
    let (revision, decision) = held.operators.decision(&request, body)?;
    let user = UserId::new(id);
    let dropped =
        async { holds::drop_event(&repair.repair()?, user, Some(revision), &decision).await };
    let dropped = held.operators.run(Box::pin(dropped)).await?;
    let answer = json!({
        "dropped": {"user": user.to_string(), "revision": revision, "type": dropped.event_type},
        "held": dropped.still_held.as_ref().map(shown),
    });
    Ok(HttpResponse::Ok().json(answer))
}

fn shown(held: &HeldUser) -> Value {
    json!({"user": held.user.to_string(), "revision": held.revision, "reason": held.reason})
}
