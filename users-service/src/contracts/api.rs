//! The routes `GET /asyncapi.json` and `GET /schemas/{name}`. They show no user, so they need no token.

use super::{asyncapi, schemas, text};
use actix_web::HttpResponse;
use actix_web::web::{Data, Path, ServiceConfig, get, resource};
use bytes::Bytes;
use std::collections::BTreeMap;
use web::Problem;

const ASYNCAPI: &str = "application/vnd.aai.asyncapi+json;version=3.0.0";
const SCHEMA: &str = "application/schema+json";

/// The texts of the document and of the schemas.
#[derive(Debug)]
pub struct Contracts {
    asyncapi: Bytes,
    schemas: BTreeMap<String, Bytes>,
}

impl Contracts {
    /// Generates the texts.
    #[must_use]
    pub fn generate() -> Self {
        let schemas = schemas().into_iter();
        Self {
            asyncapi: text(&asyncapi()).into(),
            schemas: schemas
                .map(|(name, schema)| (name, text(&schema).into()))
                .collect(),
        }
    }
}

/// Adds the routes. Requires `Data<Contracts>`. They must come before `/{id}`, which would take `/asyncapi.json` too.
pub fn contracts(config: &mut ServiceConfig) {
    config
        .service(resource("/asyncapi.json").route(get().to(document)))
        .service(resource("/schemas/{name}").route(get().to(schema)));
}

async fn document(contracts: Data<Contracts>) -> HttpResponse {
    HttpResponse::Ok()
        .content_type(ASYNCAPI)
        .body(contracts.asyncapi.clone())
}

async fn schema(contracts: Data<Contracts>, name: Path<String>) -> Result<HttpResponse, Problem> {
    let schema = contracts.schemas.get(name.as_str());
    let schema = schema.ok_or_else(Problem::not_found)?;
    Ok(HttpResponse::Ok().content_type(SCHEMA).body(schema.clone()))
}
