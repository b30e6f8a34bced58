//! Products in SQLite.

use std::sync::{Arc, Mutex, PoisonError};

use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use crate::demo::Faults;
use crate::{Error, Result};

/// The number of products.
const PRODUCTS: usize = 60;

const SEED: [(&str, u32); 8] = [
    ("Espresso machine", 64_900),
    ("Coffee grinder", 18_900),
    ("Gooseneck kettle", 7_900),
    ("Pour-over dripper", 2_400),
    ("Milk pitcher", 1_900),
    ("Kitchen scale", 3_500),
    ("Paper filters", 650),
    ("House blend, 1 kg", 2_200),
];

/// A product.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Product {
    /// Its key in the database.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// Its price, in cents.
    pub price: u32,
}

/// Products in an SQLite database in memory. Clones share the database.
#[derive(Clone, Debug)]
pub struct Database {
    connection: Arc<Mutex<Connection>>,
    faults: Faults,
}

impl Database {
    /// Opens a database with a few products. SQLite in memory is fast and does not fail: `faults` make it slow, or
    /// let it fail.
    ///
    /// # Errors
    ///
    /// Returns an error when SQLite fails.
    pub fn open(faults: Faults) -> Result<Self> {
        let connection = Connection::open_in_memory()?;
        connection.execute_batch(
            "CREATE TABLE products (id INTEGER PRIMARY KEY, name TEXT NOT NULL, price INTEGER NOT NULL)",
        )?;
        for (name, price) in SEED.iter().cycle().take(PRODUCTS) {
            connection.execute(
                "INSERT INTO products (name, price) VALUES (?1, ?2)",
                params![name, price],
            )?;
        }
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            faults,
        })
    }

    /// Returns all products.
    ///
    /// # Errors
    ///
    /// Returns an error when SQLite fails.
    pub async fn list(&self) -> Result<Vec<Product>> {
        self.run(|connection| {
            let mut statement =
                connection.prepare("SELECT id, name, price FROM products ORDER BY id")?;
            Ok(statement
                .query_map([], product)?
                .collect::<Result<_, _>>()?)
        })
        .await
    }

    /// Returns one product.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no product with this id, or when SQLite fails.
    pub async fn find(&self, id: u32) -> Result<Product> {
        self.run(move |connection| {
            connection
                .query_row(
                    "SELECT id, name, price FROM products WHERE id = ?1",
                    [id],
                    product,
                )
                .optional()?
                .ok_or(Error::NoSuchProduct(id))
        })
        .await
    }

    /// Renames a product.
    ///
    /// # Errors
    ///
    /// Returns an error when there is no product with this id, or when SQLite fails.
    pub async fn rename(&self, id: u32, name: String) -> Result<()> {
        self.run(move |connection| {
            match connection.execute(
                "UPDATE products SET name = ?2 WHERE id = ?1",
                params![id, name],
            )? {
                0 => Err(Error::NoSuchProduct(id)),
                _ => Ok(()),
            }
        })
        .await
    }

    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let connection = Arc::clone(&self.connection);
        let query = move || work(&connection.lock().unwrap_or_else(PoisonError::into_inner));
        self.faults.run(query).await
    }
}

fn product(row: &Row<'_>) -> rusqlite::Result<Product> {
    Ok(Product {
        id: row.get(0)?,
        name: row.get(1)?,
        price: row.get(2)?,
    })
}
