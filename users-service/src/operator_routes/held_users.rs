//! The routes of held users. They need the read model's file, and the event store to replay a user.

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

/// The held users of a read model.
#[derive(Debug, Clone)]
pub struct HeldUsers {
    repair: CurrentRepair,
    operators: Operators,
}

impl HeldUsers {
    /// The held users of this read model, for these operators.
    #[must_use]
    pub fn new(repair: CurrentRepair, operators: Operators) -> Self {
        Self { repair, operators }
    }

    /// Adds `GET /operations/held`, `POST /operations/held/{id}/replay` and `POST /operations/held/{id}/drop`.
    pub fn add_to(&self, config: &mut ServiceConfig) {
        let list = secured(get().to(list), ADMIN);
        let replay = secured(post().to(replay), ADMIN);
        let drop = secured(post().to(drop_event), ADMIN);
        config
            .app_data(Data::new(self.clone()))
            .service(resource("/operations/held").route(list))
            .service(resource("/operations/held/{id}/replay").route(replay))
            .service(resource("/operations/held/{id}/drop").route(drop));
    }
}

async fn list(held: Data<HeldUsers>) -> Result<HttpResponse, Problem> {
    let listed = async {
        let listed = holds::list(&held.repair.generation()?).await;
        Ok::<_, OperationError>(listed.map_err(anyhow::Error::from)?)
    };
    let listed = held.operators.run(Box::pin(listed)).await?;
    let data: Vec<_> = listed.users.iter().map(shown).collect();
    Ok(HttpResponse::Ok().json(json!({"data": data, "total": listed.total})))
}

async fn replay(held: Data<HeldUsers>, PathId(id): PathId) -> Result<HttpResponse, Problem> {
    let user = UserId::new(id);
    let replayed = async { holds::replay(&held.repair.repair()?, user).await };
    let still_held = held.operators.run(Box::pin(replayed)).await?;
    Ok(HttpResponse::Ok().json(json!({"held": still_held.as_ref().map(shown)})))
}

async fn drop_event(
    held: Data<HeldUsers>,
    PathId(id): PathId,
    request: HttpRequest,
    Json(body): Json,
) -> Result<HttpResponse, Problem> {
    let (revision, decision) = held.operators.decision(&request, body)?;
    let user = UserId::new(id);
    let dropped = async {
        let repair = held.repair.repair()?;
        holds::drop_event(&repair, user, Some(revision), &decision).await
    };
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
