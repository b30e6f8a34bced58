// The database that the examples of the guide ask: they include this, so that each compiles alone.

#[derive(Clone, Debug)]
pub struct Database;

#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Product {
    pub id: u64,
    pub name: String,
}

#[derive(Debug)]
pub struct DatabaseError;

impl Database {
    pub async fn product(&self, id: u64) -> Result<Product, DatabaseError> {
        let name = format!("Product {id}");
        Ok(Product { id, name })
    }
}

impl std::fmt::Display for DatabaseError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the database refuses queries")
    }
}

impl std::error::Error for DatabaseError {}
