// The page's side of KeptFields: the tab's own storage, which a reload leaves as it is, and which ends with the tab.

const PREFIX = "mamba2-lab, ";

// A picker is kept by what it shows: its numbers may mean something else to the next kernel.
function read(field) {
  return field.has("index") ? field.get("_options_labels")[field.get("index")] : field.get("value");
}

function write(field, kept) {
  if (!field.has("index")) field.set("value", kept);
  else if (field.get("_options_labels").includes(kept)) field.set("index", field.get("_options_labels").indexOf(kept));
  field.save_changes();
}

async function initialize({ model }) {
  for (const [name, reference] of Object.entries(model.get("fields"))) {
    const field = await model.widget_manager.get_model(reference.slice("IPY_MODEL_".length));
    const kept = sessionStorage.getItem(PREFIX + name);
    if (kept !== null) write(field, JSON.parse(kept));
    field.on("change:value change:index", () => sessionStorage.setItem(PREFIX + name, JSON.stringify(read(field))));
  }
  // A page that the browser had put by, and now shows again, has lost its kernel.
  addEventListener("pageshow", (event) => event.persisted && location.reload());
}

export default { initialize };
