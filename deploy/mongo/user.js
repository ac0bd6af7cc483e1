// Run once, by the image, when the volume is new: the store's user, who can do nothing outside its own database.
db.getSiblingDB("repstream").createUser({
  user: "repstream",
  pwd: process.env.REPSTREAM_MONGO_PASSWORD,
  roles: [{role: "readWrite", db: "repstream"}],
});
