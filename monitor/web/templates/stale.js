(function () {
  var e = document.getElementById("written");
  function look() { document.body.classList.toggle("old", Date.now() - Date.parse(e.dateTime) > 600000); }
  look();
  setInterval(look, 60000);
})();
