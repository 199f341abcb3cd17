// Opens the extension's page with the query that the suite wrote, because a browser cannot open it from the command line.
async function open() {
  const query = await (await fetch(chrome.runtime.getURL("query.txt"))).text();
  await chrome.tabs.create({ url: `${chrome.runtime.getURL("page.html")}?${query}` });
}

open();
